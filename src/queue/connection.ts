import { type ChannelModel, connect, credentials, type SocketOptions } from "amqplib"
import {
  Cause,
  Clock,
  Context,
  Data,
  Deferred,
  Effect,
  FiberSet,
  Layer,
  Option,
  Redacted,
  SubscriptionRef
} from "effect"
import { Socket } from "node:net"
import { unescape } from "node:querystring"
import { rootCertificates } from "node:tls"
import { tell } from "../events.ts"
import { connects, recorder } from "../metrics.ts"
import { Settings } from "../settings.ts"
import { kept, nextOf, until } from "./kept.ts"

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
  /** Known at once, before any fiber has heard of it. */
  readonly isLost: () => boolean
  /** Bytes that the broker has sent so far; a link that lives brings some with each heartbeat. */
  readonly received: () => number
  /** Seconds between heartbeats as agreed with the broker, which sends two in that time; 0 for none. */
  readonly heartbeat: number
}

/** A connection whose end cannot be missed: it was listened to before anything else was done with it. */
export interface Dialled {
  readonly model: ChannelModel
  /** Done with the reason once the connection has failed or is closed. */
  readonly closed: Deferred.Deferred<string>
}

/** How a connection is made. The demo dials an embedded broker instead. */
export class Dial extends Context.Service<Dial, { readonly dial: Effect.Effect<Dialled, LinkFailed> }>()(
  "b24rmq/Dial"
) {
  static readonly layer = Layer.effect(
    Dial,
    Effect.gen(function* () {
      const settings = yield* Settings
      const { address, login } = destination(Redacted.value(settings.ampqUrl))
      const options: SocketOptions = {
        noDelay: true,
        keepAlive: true,
        timeout: silenceLimit,
        clientProperties: { connection_name: `B24RMQ ${settings.ampqIn.join(", ")} -> ${settings.ampqOut}` },
        ...login,
        ...(settings.authorities.length === 0 ? {} : { ca: [...rootCertificates, ...settings.authorities] })
      }
      return Dial.of({
        dial: Effect.tryPromise({
          // The signal destroys the socket when nobody waits for it any more.
          try: (signal) => connect(address, { ...options, signal } as SocketOptions).then(heard),
          catch: (cause) => new LinkFailed({ reason: handshakeReason(cause) })
        }).pipe(
          Effect.timeoutOrElse({
            duration: handshakeLimit,
            orElse: () => Effect.fail(new LinkFailed({ reason: `no handshake within ${handshakeLimit}` }))
          })
        )
      })
    })
  )
}

/** How long a broker may be silent in the handshake, in milliseconds. The library waits for ever without it. */
const silenceLimit = 10_000

/** Deadline of the whole handshake, for a broker that speaks now and then. */
const handshakeLimit = "15 seconds"

/** Deadline of each later step that waits for the broker. */
export const stepLimit = "10 seconds"

/** Deadline of each closing: a blocked broker does not answer it. */
export const closeLimit = "2 seconds"

/** Seconds between heartbeats, unless the address says otherwise: a silent broker is noticed within three times that. */
const heartbeat = "10"

/** The library reads percent-encoded user names and passwords as Latin-1, so they are decoded here. */
const destination = (text: string) => {
  const url = new URL(text)
  if (!url.searchParams.has("heartbeat")) url.searchParams.set("heartbeat", heartbeat)
  const { username, password } = url
  return {
    address: url.href,
    login: username + password === "" ? {} : { credentials: credentials.plain(unescape(username), unescape(password)) }
  }
}

/** The words of an error of the client library. They never hold the address. */
export const reasonOf = (cause: unknown) => (cause instanceof Error ? cause.message : String(cause))

/** The last step of the handshake opens the vhost, and the library does not pass on why it was refused. */
const handshakeReason = (cause: unknown) => {
  const reason = reasonOf(cause)
  return /ConnectionOpenOk; got <ConnectionClose/.test(reason)
    ? "the broker refused the vhost: does it exist, may the user enter it, is its connection limit reached?"
    : reason
}

/**
 * Listens for the end of a connection. To be called in the same turn that made it: an `error` without a listener ends
 * the process, and an orderly shutdown of the broker (code 320) is a `close` without an `error`.
 */
export const heard = (model: ChannelModel): Dialled => {
  const closed = Deferred.makeUnsafe<string>()
  const end = (error?: Error) =>
    void Deferred.doneUnsafe(closed, Effect.succeed(error === undefined ? "closed" : reasonOf(error)))
  // Not at once: the library tells of an error first and tidies up after it, and would miss that it is closed meanwhile.
  model.on("error", (error) => queueMicrotask(() => end(error)))
  model.on("close", end)
  writeTogether(model)
  return { model, closed }
}

/** The socket below a connection; none where it is not the library's own. */
const socketOf = ({ connection }: ChannelModel) =>
  "stream" in connection && connection.stream instanceof Socket ? connection.stream : undefined

const heartbeatOf = ({ connection }: ChannelModel) =>
  "heartbeat" in connection && typeof connection.heartbeat === "number" ? connection.heartbeat : 0

/** What is written in one turn leaves at once: the library writes each frame alone, and a write costs more than a frame. */
const writeTogether = (model: ChannelModel) => {
  const socket = socketOf(model)
  if (socket === undefined) return
  const write = socket.write.bind(socket)
  Object.assign(socket, {
    write: (...frame: Parameters<typeof write>) => {
      if (socket.writableCorked === 0) {
        socket.cork()
        process.nextTick(() => socket.uncork())
      }
      return write(...frame)
    }
  })
}

/** What became of the link, and when, in milliseconds since 1970. */
export interface LinkChange {
  readonly at: number
  readonly what: "up" | "failed" | "lost" | "blocked" | "unblocked"
  readonly reason: string | undefined
  /** How often the same has happened one after another. */
  readonly times: number
}

/** Changes of the link that are kept. */
const longestHistory = 50

/** The one connection of the bridge, kept alive by the reconnect schedule. */
export class Connection extends Context.Service<
  Connection,
  {
    /** The link in use, or undefined while there is none. */
    readonly link: SubscriptionRef.SubscriptionRef<Link | undefined>
    /** Why the broker takes no messages now (memory or disk alarm), or undefined. */
    readonly blocked: SubscriptionRef.SubscriptionRef<string | undefined>
    /** The last changes, the oldest first. */
    readonly history: Effect.Effect<ReadonlyArray<LinkChange>>
    /** Waits for a link. */
    readonly await: Effect.Effect<Link>
    /** Gives up the link in use and makes a new one. */
    readonly restart: Effect.Effect<void>
  }
>()("b24rmq/Connection") {
  static readonly layer = Layer.effect(
    Connection,
    Effect.gen(function* () {
      const { dial } = yield* Dial
      const record = yield* recorder
      const current = yield* SubscriptionRef.make<Link | undefined>(undefined)
      const blocked = yield* SubscriptionRef.make<string | undefined>(undefined)
      const history: Array<LinkChange> = []
      const note: Note = (what, reason) =>
        Effect.map(Clock.currentTimeMillis, (at) => {
          const last = history.at(-1)
          const again = last?.what === what && last.reason === reason
          history.splice(again ? -1 : history.length, 1, { at, what, reason, times: again ? last.times + 1 : 1 })
          if (history.length > longestHistory) history.shift()
        })
      const restarts = yield* SubscriptionRef.make(0)
      let told = ""
      yield* kept(
        (well) =>
          Effect.gen(function* () {
            const link = yield* open(dial)
            yield* followAlarms(link.model, blocked, note)
            yield* tried(link)
            yield* Effect.acquireRelease(SubscriptionRef.set(current, link), () =>
              SubscriptionRef.set(current, undefined)
            )
            yield* well
            yield* note("up", undefined)
            record(connects, 1)
            yield* tell("link-up")
            told = ""
            return yield* Effect.raceFirst(link.lost, Effect.andThen(nextOf(restarts), givenUp))
          }),
        (cause) =>
          Effect.gen(function* () {
            const error = Option.getOrUndefined(Cause.findErrorOption(cause))
            const reason = error?.reason ?? Cause.pretty(cause)
            yield* note(error?._tag === "LinkLost" ? "lost" : "failed", reason)
            // The same failure again and again is one event.
            if (reason !== told) yield* tell(error?._tag === "LinkLost" ? "link-lost" : "link-failed", { reason })
            told = reason
            return "wait" as const
          })
      ).pipe(Effect.forkScoped)
      return Connection.of({
        link: current,
        blocked,
        history: Effect.sync(() => [...history]),
        await: until(current, (link) => link !== undefined),
        restart: SubscriptionRef.update(restarts, (count) => count + 1)
      })
    })
  )
}

const givenUp = Effect.fail(new LinkLost({ reason: "given up by the bridge" }))

const open = (dial: Effect.Effect<Dialled, LinkFailed>) =>
  Effect.map(
    Effect.acquireRelease(
      dial,
      // Lost from the first moment on: the library takes nothing more, and tells so only when the broker has agreed.
      ({ closed, model }) =>
        Effect.suspend(() => {
          Deferred.doneUnsafe(closed, Effect.succeed("given up by the bridge"))
          return hangUp(model)
        }),
      { interruptible: true }
    ),
    linkOf
  )

/** What was dialled, as a link. */
export const linkOf = ({ model, closed }: Dialled): Link => ({
  model,
  lost: Effect.flatMap(Deferred.await(closed), (reason) => Effect.fail(new LinkLost({ reason }))),
  isLost: () => Deferred.isDoneUnsafe(closed),
  received: () => socketOf(model)?.bytesRead ?? 0,
  heartbeat: heartbeatOf(model)
})

/**
 * A broker that shuts down may close a connection in the same breath in which it opens it. The library takes note of
 * that before anybody can listen, so that the link would be waited on for ever: it counts once it has answered.
 */
const tried = ({ model, lost }: Link) =>
  Effect.tryPromise({
    try: async () => {
      const channel = await model.createChannel()
      channel.on("error", () => {})
      await channel.close()
    },
    catch: (cause) => new LinkFailed({ reason: reasonOf(cause) })
  }).pipe(
    Effect.timeoutOrElse({
      duration: stepLimit,
      orElse: () => Effect.fail(new LinkFailed({ reason: `no answer within ${stepLimit}` }))
    }),
    Effect.raceFirst(lost)
  )

/** Closes politely within the limit, then cuts the socket: the client library only half-closes one that is silent. */
export const hangUp = (model: ChannelModel) =>
  Effect.tryPromise(() => model.close()).pipe(
    Effect.timeout(closeLimit),
    Effect.ignore,
    Effect.andThen(
      Effect.sync(() => {
        // Only an error tells the library that its timers have to end.
        socketOf(model)?.destroy(new Error("hung up"))
      })
    )
  )

type Note = (what: LinkChange["what"], reason: string | undefined) => Effect.Effect<void>

const followAlarms = (model: ChannelModel, blocked: SubscriptionRef.SubscriptionRef<string | undefined>, note: Note) =>
  Effect.gen(function* () {
    const run = yield* FiberSet.makeRuntime<never>()
    yield* Effect.addFinalizer(() => SubscriptionRef.set(blocked, undefined))
    model.on("blocked", (reason) =>
      run(
        Effect.all(
          [SubscriptionRef.set(blocked, reason), note("blocked", reason), tell("broker-blocked", { reason })],
          {
            discard: true
          }
        )
      )
    )
    model.on("unblocked", () =>
      run(
        Effect.all([SubscriptionRef.set(blocked, undefined), note("unblocked", undefined), tell("broker-unblocked")], {
          discard: true
        })
      )
    )
  })
