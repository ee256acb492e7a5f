import type { ConfirmChannel, Options } from "amqplib"
import {
  Cause,
  Context,
  Data,
  Deferred,
  Effect,
  FiberHandle,
  FiberSet,
  Layer,
  Option,
  Stream,
  SubscriptionRef
} from "effect"
import { tell } from "../events.ts"
import { bufferOf } from "../message/bytes.ts"
import { Settings } from "../settings.ts"
import { during, openChannel, step } from "./channel.ts"
import { Connection, type Link, reasonOf } from "./connection.ts"
import { kept, nextOf } from "./kept.ts"
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

/** Why an answer was not published. */
type PublishError = NotConfirmed | TooLargeForBroker

const notPublished = new NotConfirmed({ reason: "it was not published" })

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
    /** What is the matter with the answer queue itself, or undefined. */
    readonly trouble: Effect.Effect<OutletTrouble | undefined>
    /**
     * Waits until answers can be written, publishes one unless it is no longer `wanted` by then, and succeeds once the
     * broker has taken charge of it.
     */
    readonly publish: (outgoing: Outgoing, wanted: () => boolean) => Effect.Effect<void, PublishError>
    /** What was published and is not confirmed yet. */
    readonly unconfirmed: Effect.Effect<Unconfirmed>
    /** Gives up the channel in use: what is not confirmed fails, and is published again on a new one. */
    readonly restart: Effect.Effect<void>
    /** Whether the broker confirms a message for no queue, on a channel of its own. Waits for a link. */
    readonly confirms: Effect.Effect<boolean>
  }
>()("b24rmq/Outlet") {
  static readonly layer = Layer.effect(
    Outlet,
    Effect.suspend(() => open)
  )
}

/** `full`: it refuses messages. `channel`: its channel was closed by the broker. */
export interface OutletTrouble {
  readonly kind: "missing" | "full" | "channel"
  readonly reason: string
}

/** Answers that the broker has, or may have, and has not confirmed. */
export interface Unconfirmed {
  readonly count: number
  /** Tells the oldest of them, which is the next to be confirmed, from all others. */
  readonly next: unknown
  /** How many answers were confirmed or refused so far. */
  readonly confirmed: number
}

/** A confirm channel in use. */
interface Session {
  readonly channel: ConfirmChannel
  readonly notRouted: Deferred.Deferred<never, NotRouted>
  /** The socket does not take more for now. */
  full: boolean
  /** What was published and is not confirmed, in its order: a broker confirms the answers of one queue in their order. */
  readonly pending: Set<(error: Error) => void>
  /** Set when an answer came back: a return precedes its own confirm, so from then on no confirm means anything. */
  returned: boolean
}

/**
 * Frames that a channel holds for a socket that takes no more, before `drain` has to be waited for. One has 128 KiB at
 * most; with the library's own 1024 a stalled broker would cost hundreds of megabytes.
 */
const highWaterMark = 64

/** The library's word for a basic.nack. */
const nacked = "message nacked"

/** No queue has this name. */
const nowhere = "b24rmq.no-such-queue"

/** An answer that was refused is published again within seconds: if none was for so long, nobody tries any more. */
const refusalsOver = "15 seconds"

const open = Effect.gen(function* () {
  const { ampqOut: queue } = yield* Settings
  const connection = yield* Connection
  const topology = yield* Topology
  const noLink = "there is no connection to the broker"
  const closed = yield* SubscriptionRef.make<string | undefined>(noLink)
  /** Answers that wait until they can be written, the oldest first. */
  const waiting = new Set<() => void>()
  const run = yield* FiberSet.makeRuntime<never>()
  const calm = yield* FiberHandle.make()
  let session: Session | undefined
  let trouble: string | undefined = noLink
  let refusing = false
  let kind: OutletTrouble["kind"] | undefined
  /** The longest message in bytes that the broker takes, once it has closed a channel over a longer one. */
  let limit = Infinity
  let confirmed = 0
  const restarts = yield* SubscriptionRef.make(0)

  /** What keeps every answer from going out now. */
  const obstacle = () => {
    const blocked = SubscriptionRef.getUnsafe(connection.blocked)
    if (trouble !== undefined) return trouble
    if (blocked !== undefined) return `the broker takes no messages: ${blocked}`
    return session?.full ? "the broker takes no more for now" : undefined
  }

  /** Opens or closes the way, after any of the things that it depends on has changed. */
  const refresh = Effect.suspend(() => {
    const isOpen = obstacle() === undefined
    for (const attempt of waiting) {
      if (isOpen && obstacle() !== undefined) break
      // Those who wait before a closed way look whether they are still wanted: else each lost link would leave some more.
      attempt()
    }
    return SubscriptionRef.updateSome(closed, (before) => {
      // Refused answers have to be tried again, so they do not close the way; but no call should be made for more.
      const reason = obstacle() ?? (refusing ? `the queue ${queue} refuses messages` : undefined)
      return reason === before ? Option.none() : Option.some(reason)
    })
  })

  const use = Effect.fnUntraced(function* (channel: ConfirmChannel) {
    const notRouted = yield* Deferred.make<never, NotRouted>()
    const opened: Session = { channel, notRouted, full: false, returned: false, pending: new Set() }
    channel.on("return", ({ fields }) => {
      opened.returned = true
      const reason = "replyText" in fields ? String(fields.replyText) : "returned"
      Deferred.doneUnsafe(notRouted, Effect.fail(new NotRouted({ reason })))
    })
    channel.on("drain", () => {
      if (!opened.full) return
      opened.full = false
      run(refresh)
    })
    channel.on("error", (error) => {
      // "message size 17000000 is larger than configured max size 16777216"
      limit = Number(/larger than .*?max size (\d+)/.exec(reasonOf(error))?.[1] ?? limit)
    })
    yield* Effect.acquireRelease(
      Effect.suspend(() => {
        session = opened
        trouble = undefined
        kind = undefined
        return refresh
      }),
      () =>
        Effect.suspend(() => {
          session = undefined
          trouble = "the channel for answers is closed"
          // The library tells them only once the broker has agreed to the closing.
          for (const failed of opened.pending) failed(new Error(trouble))
          return refresh
        })
    )
    return opened
  })

  // The same trouble again and again is one event, until all was well in between.
  let told = ""
  const note = (event: "channel-lost" | "queue-missing" | "answer-not-routed", reason: string) =>
    Effect.suspend(() => {
      trouble = reason
      kind = event === "channel-lost" ? "channel" : "missing"
      const again = told === reason
      told = reason
      return Effect.andThen(refresh, again ? Effect.void : tell(event, { queue, reason }))
    })

  const onLink = Effect.fnUntraced(function* (link: Link, well: Effect.Effect<void>) {
    yield* topology.ensure(link, queue)
    const { channel, lost } = yield* openChannel(link, ({ model }) => model.createConfirmChannel({ highWaterMark }))
    const opened = yield* use(channel)
    yield* well
    return yield* Effect.raceAllFirst([lost, Deferred.await(opened.notRouted), nextOf(restarts)])
  }, Effect.scoped)

  yield* kept(
    (well) =>
      Effect.gen(function* () {
        const link = yield* connection.await
        yield* during(link, onLink(link, well))
      }),
    (cause) => {
      const error = Option.getOrUndefined(Cause.findErrorOption(cause))
      switch (error?._tag) {
        case "LinkLost":
          trouble = error.message
          kind = undefined
          // Whoever restarts the broker may have changed it.
          limit = Infinity
          return Effect.as(refresh, "at once")
        case "QueueMissing":
          return Effect.as(note("queue-missing", error.message), "wait")
        case "NotRouted":
          return Effect.as(note("answer-not-routed", error.reason), "wait")
        case "ChannelLost":
          return Effect.as(note("channel-lost", error.reason), "wait")
        case undefined:
          return cause.reasons.length === 0
            ? Effect.succeed("at once")
            : Effect.as(note("channel-lost", Cause.pretty(cause)), "wait")
      }
    }
  ).pipe(Effect.forkScoped)
  yield* Stream.runForEach(SubscriptionRef.changes(connection.blocked), () => refresh).pipe(Effect.forkScoped)

  const send = (
    used: Session,
    { messageId, correlationId, headers, body }: Outgoing,
    end: (result: Effect.Effect<void, PublishError>) => void
  ) => {
    const { pending } = used
    const failed = (error: unknown) => {
      pending.delete(failed)
      const reason = reasonOf(error)
      end(Effect.fail(body.length > limit ? new TooLargeForBroker({ limit }) : new NotConfirmed({ reason })))
    }
    const options: Options.Publish = {
      persistent: true,
      mandatory: true,
      contentType: "application/json",
      headers,
      ...(messageId === undefined ? {} : { messageId }),
      ...(correlationId === undefined ? {} : { correlationId })
    }
    const told = (error: Error | null) => {
      const isNacked = error?.message === nacked
      if (error === null || isNacked) confirmed++
      if (isNacked) run(refused)
      if (error !== null) return failed(error)
      if (used.returned) return failed(new Error("the answer came back"))
      if (refusing) run(accepted)
      pending.delete(failed)
      end(Effect.void)
    }
    pending.add(failed)
    try {
      // What was just written is kept by the library all the same; only the next one has to wait.
      if (used.channel.sendToQueue(queue, bufferOf(body), options, told)) return
      used.full = true
      run(refresh)
    } catch (error) {
      failed(error)
    }
  }

  const publish = (outgoing: Outgoing, wanted: () => boolean) =>
    Effect.callback<void, PublishError>((end) => {
      const attempt = () => {
        if (wanted() && obstacle() !== undefined) return void waiting.add(attempt)
        waiting.delete(attempt)
        if (!wanted() || session === undefined) return end(Effect.fail(notPublished))
        if (outgoing.body.length > limit) return end(Effect.fail(new TooLargeForBroker({ limit })))
        send(session, outgoing, end)
      }
      attempt()
      return waiting.has(attempt) ? Effect.sync(() => void waiting.delete(attempt)) : undefined
    })

  let refusalTold = false
  const accepted = Effect.suspend(() => {
    refusing = false
    return refresh
  })
  const refused = Effect.gen(function* () {
    refusing = true
    yield* refresh
    if (!refusalTold) yield* tell("answer-refused", { queue })
    refusalTold = true
    const over = Effect.suspend(() => {
      refusalTold = false
      return accepted
    })
    yield* FiberHandle.run(calm, Effect.delay(over, refusalsOver))
  })

  /** The default exchange takes what has no queue to go to, and confirms that at once. */
  const confirms = Effect.flatMap(connection.await, (link) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { channel } = yield* openChannel(link, ({ model }) => model.createConfirmChannel())
        yield* step("basic.publish", async () => {
          channel.publish("", nowhere, Buffer.alloc(0))
          await channel.waitForConfirms()
        })
      })
    )
  ).pipe(
    Effect.as(true),
    Effect.catch(() => Effect.succeed(false))
  )

  return Outlet.of({
    closed,
    trouble: Effect.sync(() => {
      if (kind !== undefined && trouble !== undefined) return { kind, reason: trouble }
      return refusing ? { kind: "full", reason: `the queue ${queue} refuses messages` } : undefined
    }),
    unconfirmed: Effect.sync(() => ({
      count: session?.pending.size ?? 0,
      next: session?.pending.values().next().value,
      confirmed
    })),
    restart: SubscriptionRef.update(restarts, (count) => count + 1),
    confirms,
    publish
  })
})
