import { type ChannelModel, connect } from "amqplib"
import { Cause, Context, Data, Effect, FiberSet, Layer, Option, Redacted, SubscriptionRef } from "effect"
import { Socket } from "node:net"
import { rootCertificates } from "node:tls"
import { tell } from "../events.ts"
import { Settings } from "../settings.ts"
import { kept, until } from "./kept.ts"

/** The broker could not be reached, or did not finish the handshake. */
export class LinkFailed extends Data.TaggedError("LinkFailed")<{ readonly reason: string }> {
  override get message() {
    return `the broker cannot be reached: ${this.reason}`
  }
}

/** A link that worked is gone. */
export class LinkLost extends Data.TaggedError("LinkLost")<{ readonly reason: string }> {
  override get message() {
    return `the connection to the broker is lost: ${this.reason}`
  }
}

/** One connection to the broker, from its handshake to its end. */
export interface Link {
  readonly model: ChannelModel
  /** Fails once the link is gone, with the reason. */
  readonly lost: Effect.Effect<never, LinkLost>
}

/** A connection whose end cannot be missed: it was listened to before anything else was done with it. */
export interface Dialled {
  readonly model: ChannelModel
  /** Resolves with the reason once the connection is closed. */
  readonly closed: Promise<string>
}

/** How a connection is made. The demo dials an embedded broker instead. */
export class Dial extends Context.Service<Dial, { readonly dial: Effect.Effect<Dialled, LinkFailed> }>()(
  "b24rmq/Dial"
) {
  static readonly layer = Layer.effect(
    Dial,
    Effect.gen(function* () {
      const settings = yield* Settings
      return Dial.of({
        dial: Effect.tryPromise({
          try: (signal) =>
            connect(address(Redacted.value(settings.ampqUrl)), {
              noDelay: true,
              keepAlive: true,
              timeout: handshakeLimit,
              clientProperties: { connection_name: `B24RMQ ${settings.ampqIn} -> ${settings.ampqOut}` },
              ...(settings.authorities.length === 0 ? {} : { ca: [...rootCertificates, ...settings.authorities] })
            }).then((model) => {
              // Nobody waits any more: what came too late must not stay open.
              if (signal.aborted) model.close().catch(() => {})
              return heard(model)
            }),
          catch: (cause) => new LinkFailed({ reason: reasonOf(cause) })
        })
      })
    })
  )
}

/** Socket time limit of the handshake in milliseconds: without it a broker that never speaks is waited for for ever. */
const handshakeLimit = 10_000

/** Deadline of each later step that waits for the broker. */
export const stepLimit = "10 seconds"

/** Deadline of each closing: a blocked broker does not answer it. */
export const closeLimit = "2 seconds"

/** Seconds between heartbeats, unless the address says otherwise: a silent broker is noticed within twice that. */
const heartbeat = "10"

const address = (text: string) => {
  const url = new URL(text)
  if (!url.searchParams.has("heartbeat")) url.searchParams.set("heartbeat", heartbeat)
  return url.href
}

/** The words of an error of the client library. They never hold the address. */
export const reasonOf = (cause: unknown) => (cause instanceof Error ? cause.message : String(cause))

/**
 * Listens for the end of a connection or channel. To be called in the same turn that made it: an `error` without a
 * listener ends the process, and an orderly shutdown of the broker (code 320) is a `close` without an `error`.
 */
export const heard = (model: ChannelModel): Dialled => ({
  model,
  closed: new Promise((closed) => {
    let reason = "closed by the broker"
    model.on("error", (error) => void (reason = reasonOf(error)))
    model.once("close", (error) => closed(error === undefined ? reason : reasonOf(error)))
  })
})

/** The one connection of the bridge, kept alive by the reconnect schedule. */
export class Connection extends Context.Service<
  Connection,
  {
    /** The link in use, or undefined while there is none. */
    readonly link: SubscriptionRef.SubscriptionRef<Link | undefined>
    /** Why the broker takes no messages now (memory or disk alarm), or undefined. */
    readonly blocked: SubscriptionRef.SubscriptionRef<string | undefined>
    /** Waits for a link. */
    readonly await: Effect.Effect<Link>
  }
>()("b24rmq/Connection") {
  static readonly layer = Layer.effect(
    Connection,
    Effect.gen(function* () {
      const { dial } = yield* Dial
      const current = yield* SubscriptionRef.make<Link | undefined>(undefined)
      const blocked = yield* SubscriptionRef.make<string | undefined>(undefined)
      let told = ""
      yield* kept(
        (well) =>
          Effect.gen(function* () {
            const link = yield* open(dial)
            yield* followAlarms(link.model, blocked)
            yield* Effect.acquireRelease(SubscriptionRef.set(current, link), () =>
              SubscriptionRef.set(current, undefined)
            )
            yield* well
            yield* tell("link-up")
            told = ""
            return yield* link.lost
          }),
        (cause) =>
          Effect.gen(function* () {
            const error = Option.getOrUndefined(Cause.findErrorOption(cause))
            const reason = error?.reason ?? Cause.pretty(cause)
            // The same failure again and again is one event.
            if (reason !== told) yield* tell(error?._tag === "LinkLost" ? "link-lost" : "link-failed", { reason })
            told = reason
            return "wait" as const
          })
      ).pipe(Effect.forkScoped)
      return Connection.of({ link: current, blocked, await: until(current, (link) => link !== undefined) })
    })
  )
}

const open = (dial: Effect.Effect<Dialled, LinkFailed>) =>
  Effect.acquireRelease(
    dial.pipe(
      Effect.timeoutOrElse({
        duration: "15 seconds",
        orElse: () => Effect.fail(new LinkFailed({ reason: "no handshake within 15 s" }))
      })
    ),
    ({ model }) => hangUp(model),
    { interruptible: true }
  ).pipe(Effect.map(linkOf))

/** What was dialled, as a link. */
export const linkOf = ({ model, closed }: Dialled): Link => ({
  model,
  lost: Effect.flatMap(
    Effect.promise(() => closed),
    (reason) => Effect.fail(new LinkLost({ reason }))
  )
})

/** Closes politely within the limit, then cuts the socket: the client library only half-closes one that is silent. */
export const hangUp = (model: ChannelModel) =>
  Effect.tryPromise(() => model.close()).pipe(
    Effect.timeout(closeLimit),
    Effect.ignore,
    Effect.andThen(
      Effect.sync(() => {
        const { connection } = model
        if ("stream" in connection && connection.stream instanceof Socket) connection.stream.destroy()
      })
    )
  )

const followAlarms = (model: ChannelModel, blocked: SubscriptionRef.SubscriptionRef<string | undefined>) =>
  Effect.gen(function* () {
    const run = yield* FiberSet.makeRuntime<never>()
    yield* Effect.addFinalizer(() => SubscriptionRef.set(blocked, undefined))
    model.on("blocked", (reason) =>
      run(Effect.andThen(SubscriptionRef.set(blocked, reason), tell("broker-blocked", { reason })))
    )
    model.on("unblocked", () => run(Effect.andThen(SubscriptionRef.set(blocked, undefined), tell("broker-unblocked"))))
  })
