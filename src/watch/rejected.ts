import { Clock, Effect, Schema } from "effect"
import { HttpRouter, HttpServerRequest } from "effect/http"
import { isUtf8 } from "node:buffer"
import { Replay, type Replayed } from "../bridge/replay.ts"
import { bufferOf } from "../message/bytes.ts"
import { type Entry, type Filter, fits } from "../queue/entry.ts"
import { mostLent, type Verdict } from "../queue/look.ts"
import { RejectedQueue } from "../queue/rejected.ts"
import { badBody, json, refusal } from "./reading.ts"

/** What commands ask of the queue of rejected requests, and what they are answered. */

/** Which of those that are kept are meant. Ages are seconds. */
export const Chosen = Schema.Struct({
  id: Schema.optionalKey(Schema.String),
  code: Schema.optionalKey(Schema.String),
  method: Schema.optionalKey(Schema.String),
  user: Schema.optionalKey(Schema.String),
  messageId: Schema.optionalKey(Schema.String),
  olderThan: Schema.optionalKey(Schema.Number),
  newerThan: Schema.optionalKey(Schema.Number)
})

/** One that is kept. `at`: when, in milliseconds since 1970; null where somebody else has put it there. */
export const Kept = Schema.Struct({
  id: Schema.String,
  at: Schema.NullOr(Schema.Number),
  code: Schema.String,
  reason: Schema.String,
  queue: Schema.String,
  method: Schema.NullOr(Schema.String),
  credential: Schema.NullOr(Schema.String),
  messageId: Schema.NullOr(Schema.String),
  correlationId: Schema.NullOr(Schema.String),
  bytes: Schema.Number
})

export const ListBody = Schema.Struct({ chosen: Chosen, limit: Schema.Number })

export const Listed = Schema.Struct({
  queue: Schema.String,
  /** All that is kept. */
  total: Schema.Number,
  /** Behind those that were looked at. */
  beyond: Schema.Number,
  /** Of those that were looked at, as many as are meant. */
  matching: Schema.Number,
  /** The oldest of these. */
  entries: Schema.Array(Kept)
})

export const Shown = Schema.Struct({
  ...Kept.fields,
  /** Names of its headers. */
  headers: Schema.Array(Schema.String),
  /** Its body as text; null where it is not UTF-8. */
  body: Schema.NullOr(Schema.String),
  base64: Schema.NullOr(Schema.String)
})

export const DropBody = Schema.Struct({ chosen: Chosen })

export const Dropped = Schema.Struct({ dropped: Schema.Number, left: Schema.Number, beyond: Schema.Number })

export const ReplayBody = Schema.Struct({ chosen: Chosen, rate: Schema.Number })

/** What a replay has come to; see `Replayed`. */
export const ReplayState = Schema.Struct({
  state: Schema.Literals(["running", "stopped", "finished"]),
  reason: Schema.NullOr(Schema.String),
  rate: Schema.Number,
  moved: Schema.Number,
  answered: Schema.Number,
  again: Schema.Number
})

/** How many are looked at for a list, at most. */
const mostListed = 10_000

const filterOf = ({ olderThan, newerThan, ...names }: typeof Chosen.Type, now: number): Filter => ({
  ...names,
  before: olderThan === undefined ? undefined : now - olderThan * 1_000,
  since: newerThan === undefined ? undefined : now - newerThan * 1_000
})

const keptOf = (entry: Entry): typeof Kept.Type => ({
  id: entry.id,
  at: entry.at ?? null,
  code: entry.code,
  reason: entry.text,
  queue: entry.queue,
  method: entry.method ?? null,
  credential: entry.credential ?? null,
  messageId: entry.messageId ?? null,
  correlationId: entry.correlationId ?? null,
  bytes: entry.bytes
})

/** Those of a message_id that are kept; none where nothing is kept, or the queue cannot be looked at. */
export const keptUnder = Effect.fnUntraced(function* (rejected: RejectedQueue["Service"], messageId: string) {
  const kept: Array<typeof Kept.Type> = []
  const visit = (entry: Entry): Verdict => {
    if (entry.messageId === messageId) kept.push(keptOf(entry))
    return "leave"
  }
  yield* Effect.ignore(rejected.look(mostListed, visit, Effect.succeed))
  return kept
})

const stateOf = ({ again, answered, moved, rate, reason, state }: Replayed): typeof ReplayState.Type => ({
  state,
  reason: reason ?? null,
  rate,
  moved,
  answered,
  again
})

/** For those who may open the socket: what is kept holds bodies of requests. */
export const rejected = Effect.fnUntraced(function* (router: HttpRouter.HttpRouter) {
  const rejected = yield* RejectedQueue
  const replay = yield* Replay

  const failing = <A, R>(
    asked: Effect.Effect<A, { readonly _tag: string; readonly message: string }, R>
  ): Effect.Effect<A | ReturnType<typeof json>, never, R> =>
    Effect.catch(asked, ({ _tag, message }) =>
      _tag === "CannotLook" || _tag === "CannotReplay" ? Effect.succeed(refusal(message, 409)) : badBody
    )

  yield* router.add(
    "POST",
    "/rejected/list",
    Effect.gen(function* () {
      const { chosen, limit } = yield* HttpServerRequest.schemaBodyJson(ListBody)
      const filter = filterOf(chosen, yield* Clock.currentTimeMillis)
      const entries: Array<typeof Kept.Type> = []
      let matching = 0
      const visit = (entry: Entry): Verdict => {
        if (fits(filter, entry) && ++matching <= limit) entries.push(keptOf(entry))
        return "leave"
      }
      const { beyond, left } = yield* rejected.look(mostListed, visit, Effect.succeed)
      const listed = { queue: rejected.queue ?? "", total: left(), beyond, matching, entries }
      return json(listed satisfies typeof Listed.Type)
    }).pipe(failing)
  )

  yield* router.add(
    "GET",
    "/rejected/show/:id",
    Effect.gen(function* () {
      const id = (yield* HttpRouter.params).id ?? ""
      let shown: typeof Shown.Type | undefined
      yield* rejected.look(
        mostLent,
        (entry, { body, headers }) => {
          if (entry.id !== id || shown !== undefined) return "leave"
          const bytes = bufferOf(body)
          const isText = isUtf8(bytes)
          shown = {
            ...keptOf(entry),
            headers: Object.keys(headers),
            body: isText ? bytes.toString("utf8") : null,
            base64: isText ? null : bytes.toString("base64")
          }
          return "leave"
        },
        () => Effect.void
      )
      return shown === undefined ? refusal(`nothing is kept under ${id}`, 404) : json(shown)
    }).pipe(failing)
  )

  yield* router.add(
    "POST",
    "/rejected/drop",
    Effect.gen(function* () {
      const { chosen } = yield* HttpServerRequest.schemaBodyJson(DropBody)
      const filter = filterOf(chosen, yield* Clock.currentTimeMillis)
      let dropped = 0
      const visit = (entry: Entry): Verdict => {
        if (!fits(filter, entry)) return "leave"
        dropped++
        return "drop"
      }
      const { beyond, left } = yield* rejected.look(mostLent, visit, Effect.succeed)
      return json({ dropped, left: left(), beyond } satisfies typeof Dropped.Type)
    }).pipe(failing)
  )

  const last = Effect.map(replay.last, (last) =>
    last === undefined ? refusal("there was no replay since the bridge was started", 409) : json(stateOf(last))
  )

  yield* router.add("GET", "/rejected/replay", last)
  yield* router.add(
    "POST",
    "/rejected/replay",
    Effect.gen(function* () {
      const { chosen, rate } = yield* HttpServerRequest.schemaBodyJson(ReplayBody)
      yield* replay.start(filterOf(chosen, yield* Clock.currentTimeMillis), rate)
      return yield* last
    }).pipe(failing)
  )
  yield* router.add("POST", "/rejected/resume", failing(Effect.andThen(replay.resume, last)))
  yield* router.add("POST", "/rejected/stop", Effect.andThen(replay.stop, last))
})
