import type { Channel } from "amqplib"
import { Data, Deferred, Effect, type Scope } from "effect"
import { closeLimit, type Link, type LinkLost, reasonOf, stepLimit } from "./connection.ts"

/** A channel is gone while its connection may live: the broker closed it, or it did not answer in time. */
export class ChannelLost extends Data.TaggedError("ChannelLost")<{
  readonly reason: string
  /** Reply code of AMQP, where the broker gave one: 404 no such queue, 403 no right, 406 not as wanted. */
  readonly code: number | undefined
}> {
  override get message() {
    return `a channel is lost: ${this.reason}`
  }
}

/** A channel that is listened to, and what tells that it is gone. */
export interface OpenChannel<C extends Channel> {
  readonly channel: C
  readonly lost: Effect.Effect<never, ChannelLost>
  /** Known at once, before any fiber has heard of it. */
  readonly isLost: () => boolean
}

const channelLost = (cause: unknown) =>
  new ChannelLost({
    reason: reasonOf(cause),
    code:
      typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "number"
        ? cause.code
        : undefined
  })

/** One question to the broker on a channel, with the deadline that every step has. */
export const step = <A>(name: string, ask: (signal: AbortSignal) => PromiseLike<A>): Effect.Effect<A, ChannelLost> =>
  // Asked within an async function, for the library throws at once where a channel is closed.
  Effect.tryPromise({ try: async (signal) => ask(signal), catch: channelLost }).pipe(
    Effect.timeoutOrElse({
      duration: stepLimit,
      orElse: () =>
        Effect.fail(new ChannelLost({ reason: `no answer to ${name} within ${stepLimit}`, code: undefined }))
    })
  )

/** Opens a channel for as long as the scope lasts; its listeners are there before anything is asked of it. */
export const openChannel = <C extends Channel>(
  link: Link,
  make: (link: Link) => Promise<C>
): Effect.Effect<OpenChannel<C>, ChannelLost, Scope.Scope> =>
  Effect.acquireRelease(
    step("channel.open", async (signal) => {
      const opened = listened(await make(link), link)
      // What came too late must not stay open.
      if (signal.aborted) opened.channel.close().catch(() => {})
      return opened
    }),
    ({ channel }) => Effect.tryPromise(async () => channel.close()).pipe(Effect.timeout(closeLimit), Effect.ignore),
    { interruptible: true }
  )

const listened = <C extends Channel>(channel: C, link: Link): OpenChannel<C> => {
  const closed = Deferred.makeUnsafe<never, ChannelLost>()
  let reason: unknown = "closed"
  channel.on("error", (error) => void (reason = error))
  channel.once("close", () => void Deferred.doneUnsafe(closed, Effect.fail(channelLost(reason))))
  return {
    channel,
    lost: Deferred.await(closed),
    isLost: () => link.isLost() || Deferred.isDoneUnsafe(closed)
  }
}

/**
 * Runs what lives on a link for no longer than the link. A link that goes takes its channels with it, and the library
 * tells of them first: their failure waits for a turn, so that the link's own is the one that counts.
 */
export const during = <A, E, R>(link: Link, work: Effect.Effect<A, E, R>): Effect.Effect<A, E | LinkLost, R> =>
  Effect.raceFirst(
    link.lost,
    Effect.tapError(work, () => Effect.yieldNow)
  )
