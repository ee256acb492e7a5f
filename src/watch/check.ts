import { Console, Data, Effect, Option, type Redacted, Result, Runtime } from "effect"
import { Portal } from "../portal/client.ts"
import { type Outcome, provesLife } from "../portal/outcome.ts"
import { openChannel, step } from "../queue/channel.ts"
import { Dial, hangUp, type Link, linkOf } from "../queue/connection.ts"
import { lookAt, type QueueState } from "../queue/topology.ts"
import { Settings } from "../settings.ts"

/** At least one thing that the bridge needs does not hold. */
export class CheckFailed extends Data.TaggedError("CheckFailed")<{ readonly failures: number }> {
  override readonly [Runtime.errorReported] = false
}

interface Finding {
  readonly mark: "ok" | "warn" | "FAIL"
  readonly about: string
  readonly says: string
}

const ok = (about: string, says: string): Finding => ({ mark: "ok", about, says })
const warn = (about: string, says: string): Finding => ({ mark: "warn", about, says })
const fail = (about: string, says: string): Finding => ({ mark: "FAIL", about, says })

/**
 * Looks at everything that the bridge needs, without taking a request or leaving anything behind: settings, broker,
 * queues and rights, portal, and the webhook if one is given. Fails if something does not hold.
 */
export const check = (webhook: Option.Option<{ readonly user: string; readonly token: Redacted.Redacted<string> }>) =>
  Effect.gen(function* () {
    const findings = [
      ok("settings", "complete and well-formed"),
      ...(yield* checkBroker),
      ...(yield* checkPortal),
      ...(Option.isSome(webhook) ? yield* checkWebhook(webhook.value) : [])
    ]
    for (const { mark, about, says } of findings) yield* Console.log(`${mark.padEnd(5)}${about.padEnd(10)}${says}`)
    const failures = findings.filter(({ mark }) => mark === "FAIL").length
    if (failures > 0) return yield* new CheckFailed({ failures })
  })

const checkBroker = Effect.gen(function* () {
  const settings = yield* Settings
  const { dial } = yield* Dial
  const dialled = yield* Effect.result(dial)
  if (Result.isFailure(dialled)) {
    return [fail("broker", `${dialled.failure.message}; check AMPQURL, the broker's log, and the firewall`)]
  }
  yield* Effect.addFinalizer(() => hangUp(dialled.success.model))
  const { product, version } = dialled.success.model.connection.serverProperties
  const link = linkOf(dialled.success)
  return [
    ok("broker", `${product} ${version}`),
    ...(yield* Effect.forEach(settings.ampqIn, (queue) => checkQueue(link, "AMPQIN", queue, mayConsume))).flat(),
    ...(yield* checkQueue(link, "AMPQOUT", settings.ampqOut, (link) => mayPublish(link))),
    ...(settings.rejected === undefined ? [] : yield* checkQueue(link, "REJECTED", settings.rejected, mayConsume))
  ]
}).pipe(Effect.scoped)

const checkQueue = Effect.fnUntraced(function* (
  link: Link,
  about: string,
  queue: string,
  rights: (link: Link, state: QueueState) => Effect.Effect<Finding>
) {
  const { declare } = yield* Settings
  const looked = yield* Effect.result(lookAt(link, queue))
  if (Result.isFailure(looked)) {
    const { failure } = looked
    if (failure._tag !== "ChannelLost" || failure.code !== 404) return [fail(about, failure.message)]
    return [
      declare
        ? warn(about, `${queue} does not exist; it is declared at the start`)
        : fail(about, `${queue} does not exist; declare it, or set B24RMQ_DECLARE=yes`)
    ]
  }
  const state = looked.success
  const counts = `${queue}: ${state.messageCount} messages, ${state.consumerCount} consumers`
  return [ok(about, counts), yield* kindOf(link, queue, about), { ...(yield* rights(link, state)), about }]
})

/**
 * What a queue is. AMQP has no question for it, but declaring one that exists changes nothing, and the refusal (406)
 * names what differs.
 */
const kindOf = (link: Link, queue: string, about: string) =>
  Effect.gen(function* () {
    const { channel } = yield* openChannel(link, ({ model }) => model.createChannel())
    yield* step("queue.declare", () => channel.assertQueue(queue, { durable: true }))
    return ok(about, "durable, classic (or the default type of its vhost), without arguments")
  }).pipe(
    Effect.scoped,
    Effect.catch((error) => {
      const { message } = error
      if (error._tag === "ChannelLost" && error.code === 403) {
        return Effect.succeed(
          ok(
            about,
            "its kind was not looked at: that takes the right to configure, which the bridge does not need for queues that exist"
          )
        )
      }
      const differs = /inequivalent arg '([^']+)'.*current is (?:none|(?:the value )?'?([^']*)'?)/.exec(message)
      if (differs?.[1] === "durable") {
        return Effect.succeed(warn(about, "not durable: what it holds is gone when the broker restarts"))
      }
      if (differs?.[1] === "x-queue-type") return Effect.succeed(ok(about, `type ${differs[2]}`))
      if (differs !== null) return Effect.succeed(ok(about, `durable, with an own argument ${differs[1]}`))
      return Effect.succeed(warn(about, `its kind is not known: ${message}`))
    })
  )

/** Consuming is tried only where no message can be taken by it. */
const mayConsume = (link: Link, { queue, messageCount, consumerCount }: QueueState) =>
  Effect.gen(function* () {
    if (messageCount > 0 && consumerCount === 0) {
      return warn("", "right to consume not tested: the test would take one of the waiting messages")
    }
    const { channel } = yield* openChannel(link, ({ model }) => model.createChannel())
    // Among other consumers this is refused for being exclusive, and only after the right to read was looked at.
    yield* step("basic.consume", () => channel.consume(queue, () => {}, { exclusive: consumerCount > 0 }))
    return ok("", "may be consumed")
  }).pipe(
    Effect.scoped,
    Effect.catch(({ message }) =>
      Effect.succeed(
        /exclusive use/.test(message)
          ? ok("", "may be consumed")
          : fail("", `may not be consumed: ${message}; give the user the read right`)
      )
    )
  )

/** Publishes to a queue that cannot exist: with the right to write the message comes straight back. */
const mayPublish = (link: Link) =>
  Effect.gen(function* () {
    const { channel } = yield* openChannel(link, ({ model }) => model.createConfirmChannel())
    yield* step("basic.publish", async () => {
      channel.sendToQueue("b24rmq.check.no.such.queue", Buffer.alloc(0), { mandatory: true })
      await channel.waitForConfirms()
    })
    return ok("", "may be published to")
  }).pipe(
    Effect.scoped,
    Effect.catch(({ message }) =>
      Effect.succeed(
        fail("", `may not be published to: ${message}; give the user the write right on the default exchange`)
      )
    )
  )

const saying = (outcome: Outcome) => {
  switch (outcome._tag) {
    case "Done":
      return "answers"
    case "Refused":
      return `answers (${outcome.code || `HTTP ${outcome.status}`})`
    case "Limited":
      return "answers, and refuses for too many requests"
    case "Unavailable":
      return `does not work: ${outcome.reason}`
    case "Unknown":
      return `gives no answer that a portal would give: ${outcome.reason}`
  }
}

const checkPortal = Effect.gen(function* () {
  const { b24Rest } = yield* Settings
  const { probe } = yield* Portal
  const outcome = yield* probe
  return [(provesLife(outcome) ? ok : fail)("portal", `${b24Rest.host} ${saying(outcome)}`)]
})

const checkWebhook = Effect.fnUntraced(function* (webhook: {
  readonly user: string
  readonly token: Redacted.Redacted<string>
}) {
  const { call } = yield* Portal
  const outcome = yield* call({ ...webhook, method: "scope", body: Buffer.from("{}") })
  if (outcome._tag !== "Done") return [fail("webhook", `of user ${webhook.user}: the portal ${saying(outcome)}`)]
  return [ok("webhook", `of user ${webhook.user} works; its scope: ${scopeIn(outcome.body)}`)]
})

const scopeIn = (body: Uint8Array) => {
  const listed = /"result":\[([^\]]*)\]/.exec(Buffer.from(body).toString("utf8"))?.[1] ?? ""
  return listed.replaceAll('"', "").replaceAll(",", ", ") || "none"
}
