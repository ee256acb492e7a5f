import { Clock, Effect, MutableRef, Redacted, Result, Schema, SubscriptionRef } from "effect"
import { HttpRouter, HttpServerRequest } from "effect/http"
import packaged from "../../package.json" with { type: "json" }
import { Dispatch } from "../bridge/dispatch.ts"
import { Pause } from "../bridge/pause.ts"
import { tell } from "../events.ts"
import { Journal } from "../journal/journal.ts"
import type { Row } from "../journal/store.ts"
import { readRequest } from "../message/request.ts"
import { RejectedQueue } from "../queue/rejected.ts"
import { mostCommands } from "../portal/batch.ts"
import { isRead } from "../portal/methods.ts"
import { change, Settings, settingsAsText } from "../settings.ts"
import { reportOf } from "./cause.ts"
import { Tail } from "./log.ts"
import { prometheus } from "./metrics.ts"
import { Overview } from "./overview.ts"
import { badBody, json, refusal } from "./reading.ts"
import { Kept, keptUnder } from "./rejected.ts"

export const Said = Schema.Struct({ says: Schema.String })
export const Refusal = Schema.Struct({ error: Schema.String })

export const SetBody = Schema.Struct({ name: Schema.String, value: Schema.String })

export const CallBody = Schema.Struct({
  method: Schema.String,
  user: Schema.String,
  token: Schema.RedactedFromValue(Schema.String),
  /** JSON text. */
  body: Schema.String
})

export const CallAnswer = Schema.Struct({
  outcome: Schema.Literals(["done", "refused", "unknown"]),
  status: Schema.NullOr(Schema.Number),
  attempts: Schema.Number,
  /** The portal's answer, or why there is none. */
  body: Schema.String
})

/** What the journal and the queue of rejected requests know of a message. Times are milliseconds since 1970. */
export const Found = Schema.Struct({
  messageId: Schema.String,
  waiting: Schema.Array(
    Schema.Struct({
      method: Schema.String,
      credential: Schema.String,
      reason: Schema.String,
      since: Schema.Number,
      until: Schema.NullOr(Schema.Number)
    })
  ),
  kept: Schema.Array(Kept),
  entries: Schema.Array(
    Schema.Struct({
      method: Schema.String,
      credential: Schema.String,
      queue: Schema.String,
      firstSentAt: Schema.NullOr(Schema.Number),
      lastSentAt: Schema.NullOr(Schema.Number),
      departures: Schema.Number,
      /** Null while nobody knows what came of it. */
      answer: Schema.NullOr(
        Schema.Struct({
          outcome: Schema.String,
          status: Schema.NullOr(Schema.Number),
          attempts: Schema.Number,
          bytes: Schema.Number,
          packed: Schema.Boolean,
          resolved: Schema.NullOr(Schema.String),
          at: Schema.Number,
          confirmed: Schema.Boolean
        })
      )
    })
  )
})

const entryOf = ({ method, credential, queue, sent, answered }: Row): (typeof Found.Type)["entries"][number] => ({
  method,
  credential,
  queue,
  firstSentAt: sent?.firstAt ?? null,
  lastSentAt: sent?.at ?? null,
  departures: sent?.attempts ?? 0,
  answer:
    answered === undefined
      ? null
      : {
          outcome: answered.outcome,
          status: answered.status ?? null,
          attempts: answered.attempts,
          bytes: answered.bytes,
          packed: answered.packed,
          resolved: answered.resolved ?? null,
          at: answered.at,
          confirmed: answered.confirmed
        }
})

/** What only those may ask who may open the socket: it changes what the bridge does, or spends the portal's limits. */
export const steering = Effect.fnUntraced(function* (router: HttpRouter.HttpRouter) {
  const settings = yield* Settings
  const dispatch = yield* Dispatch
  const pause = yield* Pause
  const journal = yield* Journal
  const rejected = yield* RejectedQueue
  const overview = yield* Overview
  const tail = yield* Tail
  const metrics = Effect.provide(prometheus, yield* Effect.context<Effect.Services<typeof prometheus>>())

  const pauseTo = (paused: boolean) =>
    Effect.match(pause.set(paused), {
      onSuccess: () =>
        json({
          says: paused
            ? "Paused: what is in flight is finished, nothing else departs or is taken. It stays so over a restart."
            : "Resumed."
        }),
      onFailure: ({ message }) =>
        json({ says: `${paused ? "Paused" : "Resumed"}, but a restart would not know it yet: ${message}` })
    })

  yield* router.add("POST", "/pause", pauseTo(true))
  yield* router.add("POST", "/resume", pauseTo(false))

  yield* router.add(
    "POST",
    "/set",
    Effect.gen(function* () {
      const { name, value } = yield* HttpServerRequest.schemaBodyJson(SetBody)
      const changed = change(settings.live, name, value)
      if (Result.isFailure(changed)) return refusal(changed.failure, 400)
      yield* dispatch.look
      yield* tell("setting-changed", { name: changed.success, value })
      return json({ says: `${changed.success}=${value}, until the next start.` })
    }).pipe(Effect.catch(() => badBody))
  )

  yield* router.add(
    "GET",
    "/find/:id",
    Effect.gen(function* () {
      const messageId = (yield* HttpRouter.params).id ?? ""
      const rows = yield* journal.find(messageId)
      const at = yield* Clock.currentTimeMillis
      const seen = yield* dispatch.find(messageId)
      return json({
        messageId,
        waiting: seen.waiting.map(({ method, credential, reason, since, until }) => ({
          method,
          credential,
          reason,
          since: Math.round(at + since - seen.at),
          until: until === undefined ? null : Math.round(at + until - seen.at)
        })),
        kept: yield* keptUnder(rejected, messageId),
        entries: rows.map(entryOf)
      } satisfies typeof Found.Type)
    }).pipe(Effect.catchTag("JournalFailed", ({ message }) => Effect.succeed(refusal(message, 503))))
  )

  yield* router.add(
    "POST",
    "/call",
    Effect.gen(function* () {
      const { method, user, token, body } = yield* HttpServerRequest.schemaBodyJson(CallBody)
      const headers = { method, user, token: Redacted.value(token) }
      const read = readRequest(
        { body: Buffer.from(body), headers, messageId: undefined, correlationId: undefined, timestamp: undefined },
        settings.maxRequest
      )
      if (Result.isFailure(read)) return refusal(`${read.failure.code}: ${read.failure.description}`, 400)
      if (SubscriptionRef.getUnsafe(pause.since) !== undefined)
        return refusal("the bridge is paused, and nothing departs: resume it first")
      const reply = yield* dispatch.ask({
        request: read.success,
        isRead: isRead(method, settings.ownReads),
        queue: "",
        place: undefined,
        mayRest: () => false,
        crowds: () => false,
        deadline: undefined,
        most: mostCommands,
        isLost: () => false
      })
      if (reply._tag !== "Sent") return refusal("it was not sent: the bridge stops", 503)
      const { outcome, attempts } = reply
      const answer: typeof CallAnswer.Type =
        outcome._tag === "Unknown"
          ? { outcome: "unknown", status: outcome.status ?? null, attempts, body: outcome.reason }
          : {
              outcome: outcome._tag === "Done" ? "done" : "refused",
              status: outcome.status,
              attempts,
              body: Buffer.from(outcome.body).toString("utf8")
            }
      return json(answer)
    }).pipe(Effect.catch(() => badBody))
  )

  // What a person attaches to a report: no body, no token and no password is in any of it.
  yield* router.add(
    "GET",
    "/diag",
    Effect.gen(function* () {
      const lines = yield* tail.lines
      return json({
        "settings.txt": settingsAsText(settings)
          .map(([name, text]) => `${name}=${text}`)
          .join("\n"),
        "status.json": JSON.stringify(reportOf(yield* overview.status), undefined, 2),
        "history.json": JSON.stringify(yield* overview.history),
        "metrics.txt": yield* metrics,
        "log.txt": lines.join("\n"),
        "versions.json": JSON.stringify(
          {
            b24rmq: packaged.version,
            bun: Bun.version,
            system: `${process.platform} ${process.arch}`,
            memory: process.memoryUsage(),
            live: MutableRef.get(settings.live)
          },
          undefined,
          2
        )
      })
    })
  )
})
