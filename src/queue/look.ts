import type { ConsumeMessage } from "amqplib"
import { Deferred, Effect, Result, Schedule, type Scope } from "effect"
import { type ChannelLost, openChannel, step } from "./channel.ts"
import { confirmed, type NotTaken, publisher } from "./confirm.ts"
import { closeLimit, type Link } from "./connection.ts"
import { type Entry, entryOf } from "./entry.ts"
import { copyOf, type Raw, rawOf } from "./raw.ts"
import { lookAt } from "./topology.ts"

/** What becomes of a message that is seen: it stays where it is, is removed, or is handed over. */
export type Verdict = "leave" | "drop" | "take"

/** A message that was handed over. It stays in its queue unless it is moved. */
export interface Taken {
  readonly entry: Entry
  readonly raw: Raw
  /** Publishes it, as `copy` makes it, and removes it once the broker has confirmed that. */
  readonly move: (queue: string, copy: ReturnType<typeof copyOf>) => Effect.Effect<void, NotTaken>
}

/** What was seen of a queue. */
export interface Looked {
  readonly taken: ReadonlyArray<Taken>
  /** Messages behind those that were looked at. */
  readonly beyond: number
  /** Messages that the queue holds by now, those that are open here among them. */
  readonly left: () => number
  /** Some have come back so often that they had better be published anew. */
  readonly worn: boolean
}

/**
 * Quorum queues of RabbitMQ 4 drop a message that came back more than 20 times (rabbitmq.com/docs/quorum-queues,
 * delivery-limit), and on 4.0 and 4.3 each look counts.
 */
const worn = 10

/** A queue that brings nothing for so long has less than it said: something was purged or has expired. */
const silence = "2 seconds"

/** No more than this can be lent to one consumer. */
export const mostLent = 65_535

/**
 * Has the first messages of a queue brought, `most` of them at most, each of them to `deliver`. They are open on a channel
 * until the scope closes; those that are not acknowledged by then are in the queue again, in their order and before what has
 * come since.
 *
 * That holds for classic and quorum queues of 3.10.8, 4.0.5 and 4.3.6, where quorum queues are particular. What several
 * consumers bring comes back mixed up, and each basic.get is one. A nack moves messages to the tail on 3.10. What is on its
 * way to a consumer that is cancelled comes back in another place. And a channel that is closed right after many
 * acknowledgements forgets all but some thirty of them, unless a step waits for the queue before that, as cancelling does.
 */
const borrow = Effect.fnUntraced(function* (
  link: Link,
  queue: string,
  most: number,
  deliver: (message: ConsumeMessage) => void
) {
  const { messageCount } = yield* lookAt(link, queue)
  const { channel, lost, isLost } = yield* openChannel(link, ({ model }) => model.createConfirmChannel())
  const wanted = Math.min(messageCount, most, mostLent)
  const over = yield* Deferred.make<void>()
  let came = 0
  const take = (message: ConsumeMessage | null) => {
    if (message === null) return void Deferred.doneUnsafe(over, Effect.void)
    // For each that is acknowledged, one more comes: it is given back unseen.
    if (++came <= wanted) deliver(message)
    if (came === wanted) Deferred.doneUnsafe(over, Effect.void)
  }
  const consume = Effect.gen(function* () {
    yield* step("basic.qos", () => channel.prefetch(wanted))
    const { consumerTag } = yield* step("basic.consume", () => channel.consume(queue, take))
    yield* Effect.raceAllFirst([Deferred.await(over), lost, silent(() => came)])
    return consumerTag
  })
  const tag = wanted > 0 ? yield* consume : undefined
  return {
    publish: publisher(channel),
    ack: (message: ConsumeMessage, allUpTo = false) => {
      // The library throws where it closes a channel by itself, before it says so.
      if (!isLost()) Result.try(() => channel.ack(message, allUpTo))
    },
    /** Waits until the broker has said of all that was published whether it takes it. */
    confirms: Effect.ignore(Effect.tryPromise(async () => channel.waitForConfirms())),
    /** Ends the consumer, once all has come that was to come after so many acknowledgements. */
    cancel: (acknowledged: number) =>
      tag === undefined
        ? Effect.void
        : waitUntil(() => came >= Math.min(messageCount, wanted + acknowledged)).pipe(
            Effect.andThen(step("basic.cancel", () => channel.cancel(tag)))
          ),
    messageCount,
    wanted
  }
})

const waitUntil = (holds: () => boolean) =>
  Effect.repeat(Effect.sync(holds), { until: (holds) => holds, schedule: Schedule.spaced("5 millis") })

/** Returns when nothing has come for too long. */
const silent = (count: () => number): Effect.Effect<void> => {
  let before = -1
  return Effect.sync(() => {
    const isSilent = count() === before
    before = count()
    return isSilent
  }).pipe(Effect.repeat({ until: (isSilent) => isSilent, schedule: Schedule.spaced(silence) }), Effect.asVoid)
}

/**
 * Looks at the messages of a queue from its head, `most` of them at most, and removes those that `visit` drops. What was
 * not removed when the scope closes keeps its place.
 */
export const look = Effect.fnUntraced(function* (
  link: Link,
  queue: string,
  most: number,
  visit: (entry: Entry, raw: Raw) => Verdict
): Effect.fn.Return<Looked, ChannelLost, Scope.Scope> {
  const taken: Array<readonly [ConsumeMessage, Entry, Raw]> = []
  const dropped: Array<ConsumeMessage> = []
  let removed = 0
  let isWorn = false
  const on = yield* borrow(link, queue, most, (message) => {
    const raw = rawOf(message)
    isWorn ||= Number(raw.headers["x-delivery-count"] ?? 0) >= worn
    const entry = entryOf(raw)
    const verdict = visit(entry, raw)
    if (verdict === "take") taken.push([message, entry, raw])
    if (verdict === "drop") dropped.push({ ...message, content: nothing })
  })
  const remove = (message: ConsumeMessage) => {
    removed++
    on.ack(message)
  }
  // What is confirmed only now is removed, too: it would be there twice.
  const flush = on.confirms.pipe(
    Effect.andThen(Effect.suspend(() => (removed > 0 ? on.cancel(removed) : Effect.void))),
    Effect.timeout(closeLimit),
    Effect.ignore
  )
  yield* Effect.addFinalizer(() => flush)
  dropped.forEach(remove)
  return {
    taken: taken.map(([message, entry, raw]) => ({
      entry,
      raw,
      move: (to, copy) =>
        confirmed((done) =>
          on.publish(to, raw.body, copy, (fault) => {
            if (fault === undefined) remove(message)
            done(fault)
          })
        )
    })),
    beyond: on.messageCount - on.wanted,
    left: () => on.messageCount - removed,
    worn: isWorn
  }
})

const nothing = Buffer.alloc(0)

/** Messages that are published anew at a time. */
const chunk = 100

/**
 * Publishes anew all that is in the queue now, in its order, which starts the broker's count of returns again. What comes
 * meanwhile may get before some of it.
 */
export const renew = Effect.fnUntraced(function* (link: Link, queue: string) {
  let left = (yield* lookAt(link, queue)).messageCount
  while (left > 0) left -= Math.max(1, yield* Effect.scoped(renewSome(link, queue, Math.min(left, chunk))))
})

const renewSome = Effect.fnUntraced(function* (link: Link, queue: string, count: number) {
  const messages: Array<ConsumeMessage> = []
  const on = yield* borrow(link, queue, count, (message) => void messages.push(message))
  // Before the copies come to it.
  yield* on.cancel(0)
  const copy = ({ content, properties }: ConsumeMessage) =>
    confirmed((done) => on.publish(queue, content, copyOf(properties, {}), done))
  const copied = yield* Effect.forEach(messages, (message) => Effect.result(copy(message)), {
    concurrency: "unbounded"
  })
  const fault = copied.find(Result.isFailure)
  const failed = fault === undefined ? messages.length : copied.indexOf(fault)
  // In one step as far as that goes.
  const last = messages[failed - 1]
  if (last !== undefined) on.ack(last, true)
  for (const [n, message] of messages.entries()) {
    const copy = copied[n]
    if (n > failed && copy !== undefined && Result.isSuccess(copy)) on.ack(message)
  }
  return fault === undefined ? messages.length : yield* fault.failure
})
