import type { ConsumeMessage } from "amqplib"
import { Deferred, Effect, Result, Schedule, type Scope } from "effect"
import { hash } from "node:crypto"
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
 * Looks at the messages of a queue from its head, at most `most` of them, and removes those that `visit` drops. All others
 * are open on a channel until the scope closes; then they are in the queue again, in their order and before what has come
 * since. That is so on classic and quorum queues of 3.10.8, 4.0.5 and 4.3.6 if one consumer brings them, which ends while
 * nothing is on its way to it, and its channel gives them back: basic.get mixes them up on quorum queues, and so does a
 * consumer that is cancelled before all has come; a nack moves them to the tail on 3.10.
 */
export const look = Effect.fnUntraced(function* (
  link: Link,
  queue: string,
  most: number,
  visit: (entry: Entry, raw: Raw) => Verdict
): Effect.fn.Return<Looked, ChannelLost, Scope.Scope> {
  const { messageCount } = yield* lookAt(link, queue)
  const { channel, lost, isLost } = yield* openChannel(link, ({ model }) => model.createConfirmChannel())
  const publish = publisher(channel)
  // What is confirmed while the channel closes is removed in time: it would be there twice.
  yield* Effect.addFinalizer(() =>
    Effect.tryPromise(async () => channel.waitForConfirms()).pipe(Effect.timeout(closeLimit), Effect.ignore)
  )
  const wanted = Math.min(messageCount, most, mostLent)
  const taken: Array<Taken> = []
  const dropped: Array<ConsumeMessage> = []
  let seen = 0
  let left = messageCount
  let isWorn = false
  const over = yield* Deferred.make<void>()

  const remove = (message: ConsumeMessage) => {
    left--
    // The library throws where it closes a channel by itself, before it says so.
    if (!isLost()) Result.try(() => channel.ack(message))
  }

  const handOver = (message: ConsumeMessage, raw: Raw, entry: Entry): Taken => ({
    entry,
    raw,
    move: (to, copy) =>
      confirmed((done) =>
        publish(to, raw.body, copy, (fault) => {
          if (fault === undefined) remove(message)
          done(fault)
        })
      )
  })

  const deliver = (message: ConsumeMessage) => {
    seen++
    const raw = rawOf(message)
    isWorn ||= Number(raw.headers["x-delivery-count"] ?? 0) >= worn
    const entry = entryOf(raw, nameOf(raw))
    const verdict = visit(entry, raw)
    if (verdict === "take") taken.push(handOver(message, raw, entry))
    // Removed later: for each that is removed, one more would be on its way.
    if (verdict === "drop") dropped.push({ ...message, content: Buffer.alloc(0) })
    if (seen === wanted) Deferred.doneUnsafe(over, Effect.void)
  }

  if (wanted > 0) {
    yield* step("basic.qos", () => channel.prefetch(wanted))
    const { consumerTag } = yield* step("basic.consume", () =>
      channel.consume(queue, (message) =>
        message === null ? void Deferred.doneUnsafe(over, Effect.void) : deliver(message)
      )
    )
    yield* Effect.raceAllFirst([Deferred.await(over), lost, silent(() => seen)])
    if (seen === wanted) yield* step("basic.cancel", () => channel.cancel(consumerTag))
    dropped.forEach(remove)
  }
  return { taken, beyond: Math.max(0, messageCount - seen), left: () => left, worn: isWorn }
})

/** Returns when nothing has come for too long. */
const silent = (count: () => number): Effect.Effect<void> => {
  let before = -1
  return Effect.sync(() => {
    const isSilent = count() === before
    before = count()
    return isSilent
  }).pipe(Effect.repeat({ until: (isSilent) => isSilent, schedule: Schedule.spaced(silence) }), Effect.asVoid)
}

/** A name for what somebody else has put there: the same each time. */
const nameOf = ({ body, messageId }: Raw) =>
  hash("sha256", Buffer.concat([Buffer.from(`${messageId} `), body])).slice(0, 10)

/** Messages that are published anew at a time. */
const chunk = 100

/**
 * Publishes anew all that is in the queue now, in its order, which starts the broker's count of returns again. What comes
 * meanwhile may get before some of it.
 */
export const renew = Effect.fnUntraced(function* (link: Link, queue: string) {
  let left = (yield* lookAt(link, queue)).messageCount
  while (left > 0) {
    const renewed = yield* Effect.scoped(
      Effect.gen(function* () {
        const { taken } = yield* look(link, queue, Math.min(left, chunk), () => "take")
        const again = ({ move, raw }: Taken) => move(queue, copyOf(raw.properties, {}))
        yield* Effect.forEach(taken, again, { concurrency: "unbounded", discard: true })
        return taken.length
      })
    )
    if (renewed === 0) return
    left -= renewed
  }
})
