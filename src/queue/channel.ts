import type { Channel } from "amqplib"
import { Data, Effect, type Scope } from "effect"
import { closeLimit, type Link, LinkLost, reasonOf, stepLimit } from "./connection.ts"

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
  readonly lost: Effect.Effect<never, ChannelLost | LinkLost>
  /** Known at once, before any fiber has heard of it. */
  readonly isLost: () => boolean
}

const codeOf = (cause: unknown) =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "number"
    ? cause.code
    : undefined

/** One question to the broker on a channel, with the deadline that every step has. */
export const step = <A>(name: string, ask: () => PromiseLike<A>): Effect.Effect<A, ChannelLost> =>
  Effect.tryPromise({
    try: async () => ask(),
    catch: (cause) => new ChannelLost({ reason: reasonOf(cause), code: codeOf(cause) })
  }).pipe(
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
): Effect.Effect<OpenChannel<C>, ChannelLost | LinkLost, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.raceFirst(
      step("channel.open", () => make(link).then(listened)),
      link.lost
    ),
    ({ channel }) => Effect.tryPromise(() => channel.close()).pipe(Effect.timeout(closeLimit), Effect.ignore),
    { interruptible: true }
  ).pipe(
    Effect.map(({ channel, closed, isLost }) => ({
      channel,
      isLost,
      lost: Effect.raceFirst(
        link.lost,
        Effect.flatMap(
          Effect.promise(() => closed),
          Effect.fail
        )
      )
    }))
  )

const listened = <C extends Channel>(channel: C) => {
  let reason = "closed"
  let code: number | undefined
  let gone = false
  channel.on("error", (error) => {
    reason = reasonOf(error)
    code = codeOf(error)
  })
  const closed = new Promise<ChannelLost>((lost) =>
    channel.once("close", () => {
      gone = true
      lost(new ChannelLost({ reason, code }))
    })
  )
  return { channel, closed, isLost: () => gone }
}
