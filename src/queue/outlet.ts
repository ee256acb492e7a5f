import type { ConfirmChannel, Options } from "amqplib"
import { Cause, Context, Data, Deferred, Effect, Latch, Layer, Option, Stream, SubscriptionRef } from "effect"
import { tell } from "../events.ts"
import { Settings } from "../settings.ts"
import { openChannel } from "./channel.ts"
import { Connection, reasonOf } from "./connection.ts"
import { kept } from "./kept.ts"
import { Topology } from "./topology.ts"

/** The broker did not confirm an answer. It may have it all the same; publishing it again is safe. */
export class NotConfirmed extends Data.TaggedError("NotConfirmed")<{ readonly reason: string }> {
  override get message() {
    return `the answer was not confirmed: ${this.reason}`
  }
}

/** The broker refuses messages of this size for good. */
export class TooLargeForBroker extends Data.TaggedError("TooLargeForBroker")<{ readonly limit: number }> {
  override get message() {
    return `the broker takes messages of ${this.limit} bytes at most`
  }
}

/** The answer queue does not exist: the broker gave an answer back. */
class NotRouted extends Data.TaggedError("NotRouted")<{ readonly reason: string }> {}

/** What goes into the answer queue. */
export interface Outgoing {
  readonly messageId: string | undefined
  readonly correlationId: string | undefined
  readonly headers: Readonly<Record<string, string | number | boolean>>
  readonly body: Uint8Array
}

/** The way out: one confirm channel, opened again whenever it is lost. */
export class Outlet extends Context.Service<
  Outlet,
  {
    /** Why answers cannot go out now, or undefined if they can. No call should start while they cannot. */
    readonly closed: SubscriptionRef.SubscriptionRef<string | undefined>
    /**
     * Waits until answers can be written, publishes one unless it is no longer `wanted` by then, and succeeds once the
     * broker has taken charge of it.
     */
    readonly publish: (
      outgoing: Outgoing,
      wanted: () => boolean
    ) => Effect.Effect<void, NotConfirmed | TooLargeForBroker>
  }
>()("b24rmq/Outlet") {
  static readonly layer = Layer.effect(
    Outlet,
    Effect.suspend(() => open)
  )
}

/** A confirm channel in use. */
interface Session {
  readonly channel: ConfirmChannel
  readonly notRouted: Deferred.Deferred<never, NotRouted>
  /** The socket does not take more for now. */
  full: boolean
  /** Set when an answer came back: a return precedes its own confirm, so from then on no confirm means anything. */
  returned: boolean
  /** The broker's message limit in bytes, once it has closed the channel over it. */
  limit: number
}

const open = Effect.gen(function* () {
  const { ampqOut: queue } = yield* Settings
  const connection = yield* Connection
  const topology = yield* Topology
  const closed = yield* SubscriptionRef.make<string | undefined>("there is no connection to the broker yet")
  const writable = yield* Latch.make(false)
  let session: Session | undefined
  let trouble: string | undefined = "there is no connection to the broker yet"
  let refusing = false

  const refresh = Effect.suspend(() => {
    const blocked = SubscriptionRef.getUnsafe(connection.blocked)
    const alarm = blocked === undefined ? undefined : `the broker takes no messages: ${blocked}`
    const reason = trouble ?? alarm ?? (refusing ? `the queue ${queue} refuses messages` : undefined)
    if (session !== undefined && alarm === undefined && !session.full) writable.openUnsafe()
    else writable.closeUnsafe()
    return reason === SubscriptionRef.getUnsafe(closed) ? Effect.void : SubscriptionRef.set(closed, reason)
  })

  const use = (channel: ConfirmChannel) =>
    Effect.acquireRelease(
      Effect.gen(function* () {
        const opened: Session = {
          channel,
          notRouted: yield* Deferred.make<never, NotRouted>(),
          full: false,
          returned: false,
          limit: Infinity
        }
        channel.on("return", ({ fields }) => {
          opened.returned = true
          const reason = "replyText" in fields ? String(fields.replyText) : "returned"
          Deferred.doneUnsafe(opened.notRouted, Effect.fail(new NotRouted({ reason })))
        })
        channel.on("drain", () => {
          opened.full = false
          if (SubscriptionRef.getUnsafe(connection.blocked) === undefined) writable.openUnsafe()
        })
        // "message size 17000000 is larger than configured max size 16777216"
        channel.on("error", (error) => {
          opened.limit = Number(/larger than .*?max size (\d+)/.exec(reasonOf(error))?.[1] ?? Infinity)
        })
        session = opened
        trouble = undefined
        yield* refresh
        return opened
      }),
      () =>
        Effect.suspend(() => {
          session = undefined
          trouble = "the channel for answers is closed"
          return refresh
        })
    )

  let told = ""
  const note = (event: "channel-lost" | "queue-missing" | "answer-not-routed", reason: string) =>
    Effect.suspend(() => {
      trouble = reason
      const again = told === reason
      told = reason
      return Effect.andThen(refresh, again ? Effect.void : tell(event, { queue, reason }))
    })

  yield* kept(
    (well) =>
      Effect.gen(function* () {
        const link = yield* connection.await
        yield* topology.ensure(link, queue)
        const { channel, lost } = yield* openChannel(link, ({ model }) => model.createConfirmChannel())
        const opened = yield* use(channel)
        yield* well
        return yield* Effect.raceFirst(lost, Deferred.await(opened.notRouted))
      }),
    (cause) => {
      const error = Option.getOrUndefined(Cause.findErrorOption(cause))
      switch (error?._tag) {
        case "LinkLost":
          trouble = error.message
          return Effect.as(refresh, "at once")
        case "QueueMissing":
          return Effect.as(note("queue-missing", error.message), "wait")
        case "NotRouted":
          return Effect.as(note("answer-not-routed", error.reason), "wait")
        case "ChannelLost":
          return Effect.as(note("channel-lost", error.reason), "wait")
        case undefined:
          return Effect.as(note("channel-lost", Cause.pretty(cause)), "wait")
      }
    }
  ).pipe(Effect.forkScoped)
  yield* Stream.runForEach(SubscriptionRef.changes(connection.blocked), () => refresh).pipe(Effect.forkScoped)

  const send = (used: Session, { messageId, correlationId, headers, body }: Outgoing) => {
    const options: Options.Publish = {
      persistent: true,
      mandatory: true,
      contentType: "application/json",
      headers,
      ...(messageId === undefined ? {} : { messageId }),
      ...(correlationId === undefined ? {} : { correlationId })
    }
    return Effect.tryPromise({
      try: () =>
        new Promise<void>((done, failed) => {
          const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
          const more = used.channel.sendToQueue(queue, bytes, options, (error) =>
            error === null && !used.returned ? done() : failed(error ?? new Error("the answer came back"))
          )
          // What was just written is kept by the library all the same; only the next one has to wait.
          if (!more) {
            used.full = true
            writable.closeUnsafe()
          }
        }),
      catch: (cause) =>
        body.length > used.limit
          ? new TooLargeForBroker({ limit: used.limit })
          : new NotConfirmed({ reason: reasonOf(cause) })
    })
  }

  const refused = (on: boolean, reason = "") =>
    Effect.suspend(() => {
      if (refusing === on) return Effect.void
      refusing = on
      return Effect.andThen(refresh, on ? tell("answer-refused", { queue, reason }) : Effect.void)
    })

  return Outlet.of({
    closed,
    publish: (outgoing, wanted) =>
      writable.await.pipe(
        Effect.andThen(
          Effect.suspend(() =>
            session === undefined || !wanted()
              ? Effect.fail(new NotConfirmed({ reason: "the channel was just closed" }))
              : send(session, outgoing)
          )
        ),
        Effect.tap(() => refused(false)),
        Effect.tapError((error) =>
          error._tag === "NotConfirmed" && error.reason === "message nacked" ? refused(true, error.reason) : Effect.void
        )
      )
  })
})
