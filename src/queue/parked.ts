import type { ConfirmChannel, ConsumeMessage } from "amqplib"
import {
  Cause,
  Clock,
  Context,
  Data,
  Deferred,
  Effect,
  Exit,
  Layer,
  Option,
  Schedule,
  Semaphore,
  SubscriptionRef
} from "effect"
import { tell } from "../events.ts"
import { Settings } from "../settings.ts"
import { type ChannelLost, during, openChannel, step } from "./channel.ts"
import { confirmed } from "./confirm.ts"
import { closeLimit, Connection, type Link, type LinkLost, reasonOf, stepLimit } from "./connection.ts"
import type { Delivery } from "./held.ts"
import { kept, until as become } from "./kept.ts"
import { copyOf, type Raw } from "./raw.ts"
import { lookAt, type QueueMissing, Topology } from "./topology.ts"
import {
  type Memory,
  nextTicket,
  type Note,
  ours,
  type ParkedDelivery,
  type Reading,
  reading,
  remember,
  type Verdict,
  type Walk
} from "./walk.ts"

/** What a walk came to. */
export interface Walked {
  readonly joined: number
  readonly kept: number
  /** Second copies of a request, left by a lost link, that were removed. */
  readonly dropped: number
  /** All that was parked when the walk began was visited. */
  readonly whole: boolean
}

/** The broker did not confirm. The request may be parked all the same; parking it again with its ticket is safe. */
export class NotParked extends Data.TaggedError("NotParked")<{ readonly reason: string }> {
  override get message() {
    return `the request was not parked: ${this.reason}`
  }
}

/** This request can never be parked: no message of the client library or of the broker can hold the copy. */
export class CannotBeParked extends Data.TaggedError("CannotBeParked")<{ readonly reason: string }> {
  override get message() {
    return `the request cannot be parked: ${this.reason}`
  }
}

/** A walk ended early. What it has done up to there is done. */
export class WalkCut extends Data.TaggedError("WalkCut")<{ readonly reason: string }> {
  override get message() {
    return `the walk was cut: ${this.reason}`
  }
}

/** The broker cancelled the consumer: the queue was deleted, or moved to another node. */
class ConsumerCancelled extends Data.TaggedError("ConsumerCancelled")<{}> {}

/** Another connection reads the queue, and may have requests in hand that come before those in it. */
class InUse extends Data.TaggedError("InUse")<{}> {}

/** `absent`: there is no such queue and none may be declared, so nothing is parked until there is. */
export type State = "opening" | "open" | "absent"

/**
 * Requests that must wait long, in the queue `{AMPQIN}.parked`: durable, without TTL and without dead-letter exchange,
 * and read by this bridge alone. To let them wait it walks them: what may not go yet is published again at the tail,
 * and acknowledged once that is confirmed. So a crash may double a message, under the same ticket, and never loses one.
 *
 * One consumer reads the queue for as long as the channel lives, and what it brings lies ready for the next walk.
 * (`basic.get` costs a round trip each: 1,800 messages a second on loopback and 140 at 5 ms, where this makes 8,000 at
 * either; a consumer for each walk would bring more than the walk takes, and giving back changes the order of a quorum
 * queue.) While it is attached no other bridge reads here, and it is not attached before the last one is gone for the
 * broker: so what that one had in hand is in the queue again when the first walk begins.
 *
 * A walk that was cut leaves the queue rotated, and what a lost channel gives back may come anywhere. Therefore the place
 * among requests that must keep their order is told by the ticket: whoever joins them knows all tickets of a line only
 * after one whole walk, and lets none go before a lower one of its line.
 */
export class Parked extends Context.Service<
  Parked,
  {
    /**
     * Whether this bridge is the one that reads the queue: it does not before that is wanted. Once it is not wanted any
     * more, all that had joined is back in the queue, and another bridge may read it.
     */
    readonly want: (wanted: boolean) => Effect.Effect<void>
    readonly state: SubscriptionRef.SubscriptionRef<State>
    /** How many requests rest, as far as is known. */
    readonly held: Effect.Effect<number>
    /** How often those that had joined were lost with their channel: whoever waits for one looks again. */
    readonly losses: SubscriptionRef.SubscriptionRef<number>
    /** A new ticket, above all that were given or met before. */
    readonly ticket: Effect.Effect<number>
    /**
     * Publishes a request into the queue. After it succeeds the caller acknowledges the delivery, and only then. One that
     * had joined is put back instead, and needs no acknowledgement; it may get one.
     */
    readonly park: (delivery: Delivery, note: Note) => Effect.Effect<void, NotParked | CannotBeParked>
    /**
     * Shows each request that is parked now to `visit`, once, until all were seen, or it is not `wanted` any more, or as
     * many have joined as may be in the window. One walk at a time.
     */
    readonly walk: (
      visit: (delivery: ParkedDelivery) => Verdict,
      wanted?: () => boolean
    ) => Effect.Effect<Walked, WalkCut>
  }
>()("b24rmq/Parked") {
  static readonly layer = Layer.effect(
    Parked,
    Effect.suspend(() => open)
  )
}

/** Messages that are on their way to us beyond those that may join, so that the line is never idle. */
const ahead = 100

export const isParked = (delivery: Delivery): delivery is ParkedDelivery => "putBack" in delivery

const inUse = "another connection reads it, or the broker does not know yet that it is gone"

const open = Effect.gen(function* () {
  const settings = yield* Settings
  const connection = yield* Connection
  const topology = yield* Topology
  const clock = yield* Clock.Clock
  const wanted = yield* SubscriptionRef.make(false)
  const state = yield* SubscriptionRef.make<State>("opening")
  const losses = yield* SubscriptionRef.make(0)
  const turn = yield* Semaphore.make(1)
  const queue = `${settings.ampqIn[0]}.parked`
  const window = settings.prefetch
  const memory: Memory = {
    queue,
    wall: () => clock.currentTimeMillisUnsafe(),
    monotonic: () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n),
    ticket: 0,
    walk: 0,
    held: 0,
    arriving: new Set(),
    finished: new Set(),
    strays: new Set()
  }
  let used: Reading | undefined
  let trouble = "there is no connection to the broker"
  /** All tickets in the queue are known: new ones are above them. */
  let learned = false
  /** How often in a row somebody else was found reading. */
  let busy = 0
  /** The longest message in bytes that the broker takes, once it has closed a channel over a longer one. */
  let limit = Infinity

  // The same trouble again and again is one event, until all was well in between.
  let told = ""
  const note = (
    event: "channel-lost" | "queue-missing" | "consumer-cancelled" | "parked-in-use" | "parking-off",
    reason: string
  ) =>
    Effect.suspend(() => {
      trouble = reason
      const again = told === reason
      told = reason
      return again ? Effect.void : tell(event, { queue, reason })
    })

  const consumeOn = Effect.fnUntraced(function* (channel: ConfirmChannel, deliver: (message: ConsumeMessage) => void) {
    const cancelled = yield* Deferred.make<never, ConsumerCancelled>()
    const take = (message: ConsumeMessage | null) =>
      message === null ? void Deferred.doneUnsafe(cancelled, Effect.fail(new ConsumerCancelled())) : deliver(message)
    yield* Effect.acquireRelease(
      // Quorum queues let exclusive consumers be many, hence the look before it.
      step("basic.consume", () => channel.consume(queue, take, { exclusive: true })),
      ({ consumerTag }) =>
        Effect.tryPromise(async () => channel.cancel(consumerTag)).pipe(Effect.timeout(closeLimit), Effect.ignore),
      { interruptible: true }
    )
    return Deferred.await(cancelled)
  })

  /** Reads on one channel. What was brought stays with us when the broker cancels. */
  const subscription = (link: Link, channel: ConfirmChannel, opened: Reading) =>
    Effect.fnUntraced(function* (well: Effect.Effect<void>) {
      yield* topology.ensure(link, queue)
      const { messageCount, consumerCount } = yield* lookAt(link, queue)
      if (consumerCount > 0) return yield* new InUse()
      memory.held = messageCount + opened.count()
      opened.attached()
      const cancelled = yield* consumeOn(channel, opened.deliver)
      yield* Effect.acquireRelease(
        Effect.suspend(() => {
          used = opened
          told = ""
          busy = 0
          const again = SubscriptionRef.getUnsafe(state) === "absent"
          return Effect.andThen(SubscriptionRef.set(state, "open"), again ? tell("parking-on", { queue }) : Effect.void)
        }),
        () =>
          Effect.suspend(() => {
            used = undefined
            trouble = "its channel is closed"
            return SubscriptionRef.set(state, "opening")
          })
      )
      yield* well
      return yield* cancelled
    })

  const onLink = Effect.fnUntraced(function* (link: Link, well: Effect.Effect<void>) {
    const { channel, lost, isLost } = yield* openChannel(link, ({ model }) => model.createConfirmChannel())
    // Once the channel is to be closed its deliveries are as good as lost, though the broker has not said so yet.
    let closing = false
    const opened = reading(channel, () => closing || isLost(), memory)
    yield* Effect.addFinalizer(() => {
      closing = true
      opened.news.openUnsafe()
      return SubscriptionRef.update(losses, (count) => count + 1)
    })
    channel.on("error", (error) => {
      // "message size 17000000 is larger than configured max size 16777216"
      limit = Number(/larger than .*?max size (\d+)/.exec(reasonOf(error))?.[1] ?? limit)
    })
    yield* step("basic.qos", () => channel.prefetch(window + ahead))
    yield* well
    yield* Effect.raceAllFirst([lost, become(wanted, (yes) => !yes), kept(subscription(link, channel, opened), ended)])
  }, Effect.scoped)

  const absent = (reason: string) => Effect.andThen(note("parking-off", reason), SubscriptionRef.set(state, "absent"))

  // After a lost link the broker needs a moment to see that we are gone: that is no news.
  const taken = Effect.suspend(() => {
    trouble = inUse
    return ++busy > 3 ? note("parked-in-use", inUse) : Effect.void
  })

  const isInUse = (error: ChannelLost) => /exclusive use/.test(error.reason)

  /** Says why, and whether to wait. A link that is lost is told of by the connection, and waited for by the session. */
  const ended = (
    cause: Cause.Cause<ConsumerCancelled | InUse | QueueMissing | ChannelLost | LinkLost>
  ): Effect.Effect<"wait" | "at once"> => {
    const error = Option.getOrUndefined(Cause.findErrorOption(cause))
    switch (error?._tag) {
      case "LinkLost":
        trouble = error.message
        // Whoever restarts the broker may have changed it.
        limit = Infinity
        return Effect.succeed("at once")
      case "ConsumerCancelled":
        return Effect.as(note("consumer-cancelled", "cancelled by the broker"), "wait")
      case "InUse":
        return Effect.as(taken, "wait")
      case "QueueMissing":
        return Effect.as(settings.declare ? note("queue-missing", error.message) : absent(error.message), "wait")
      case "ChannelLost":
        if (isInUse(error)) return Effect.as(taken, "wait")
        return Effect.as(error.code === 403 ? absent(error.reason) : note("channel-lost", error.reason), "wait")
      case undefined:
        return cause.reasons.length === 0
          ? Effect.succeed("at once")
          : Effect.as(note("channel-lost", Cause.pretty(cause)), "wait")
    }
  }

  yield* kept(
    (well) =>
      Effect.gen(function* () {
        const link = yield* connection.await
        yield* become(wanted, (yes) => yes)
        yield* during(link, onLink(link, well))
      }),
    ended
  ).pipe(Effect.forkScoped)

  const refresh = Effect.sync(() => used?.refresh())
  yield* turn.withPermit(refresh).pipe(Effect.repeat(Schedule.spaced("1 minute")), Effect.forkScoped)

  /** The channel in use, or why nothing can be published now. */
  const ready = Effect.suspend(() => {
    const blocked = SubscriptionRef.getUnsafe(connection.blocked)
    if (blocked !== undefined) return Effect.fail(`the broker takes no messages: ${blocked}`)
    return used === undefined || used.isLost() ? Effect.fail(trouble) : Effect.succeed(used)
  })

  /** Publishes a request, and waits for the confirm. */
  const publish = (on: Reading, { body, properties }: Raw, written: Note) =>
    Effect.mapError(
      confirmed((done) => on.publish(body, copyOf(properties, ours(written, memory.walk)), done)),
      ({ kind, reason }) => (kind === "impossible" ? new CannotBeParked({ reason }) : new NotParked({ reason }))
    )

  /** Remembers that a copy may be about, until it is known to be the only one. */
  const arriving = <E extends { readonly _tag: string }>(ticket: number, parking: Effect.Effect<void, E>) =>
    Effect.suspend(() => {
      memory.arriving.add(ticket)
      memory.strays.delete(ticket)
      return Effect.onExit(parking, (exit) =>
        Effect.sync(() => {
          memory.arriving.delete(ticket)
          if (Exit.isSuccess(exit)) memory.held++
          else remember(memory.strays, ticket)
        })
      )
    })

  const park = Effect.fnUntraced(function* (delivery: Delivery, written: Note) {
    if (isParked(delivery)) return void delivery.putBack()
    if (!learned) return yield* new NotParked({ reason: "what is parked already was not walked yet" })
    const on = yield* Effect.mapError(ready, (reason) => new NotParked({ reason }))
    if (delivery.isLost()) return yield* new NotParked({ reason: "its delivery was lost" })
    if (delivery.incoming.body.length > limit) {
      return yield* new CannotBeParked({ reason: `the broker takes messages of ${limit} bytes at most` })
    }
    yield* arriving(written.ticket, publish(on, delivery.incoming, written))
  })

  /** Waits for news, but not for ever. */
  const wait = (on: Reading) =>
    on.news.await.pipe(
      Effect.timeoutOrElse({
        duration: stepLimit,
        orElse: () => Effect.fail(new WalkCut({ reason: `nothing came within ${stepLimit}` }))
      })
    )

  /** Asks again after each piece of news, until there is an answer. */
  const until = Effect.fnUntraced(function* <A>(on: Reading, walk: Walk, look: () => A | undefined) {
    while (true) {
      on.news.closeUnsafe()
      if (on.isLost()) return yield* new WalkCut({ reason: "its channel is lost" })
      const seen = look()
      if (walk.trouble !== undefined) return yield* new WalkCut({ reason: walk.trouble })
      if (seen !== undefined) return seen
      yield* wait(on)
    }
  })

  const walkOn = Effect.fnUntraced(
    function* (visit: Walk["visit"], wanted: Walk["wanted"]) {
      const on = yield* Effect.mapError(ready, (reason) => new WalkCut({ reason }))
      const walk: Walk = {
        id: nextTicket(memory),
        visit,
        wanted,
        kept: new Set(),
        joined: 0,
        dropped: 0,
        unmarked: false,
        trouble: undefined
      }
      memory.walk = walk.id
      const renewed = on.renewed()
      yield* Effect.try({ try: () => on.begin(walk), catch: (cause) => new WalkCut({ reason: reasonOf(cause) }) })
      const end = yield* until(on, walk, () => on.advance(walk, window))
      yield* until(on, walk, () => (on.isCopying() ? undefined : true))
      const whole = end === "whole" && on.renewed() === renewed
      learned ||= whole
      return { joined: walk.joined, kept: walk.kept.size, dropped: walk.dropped, whole }
    },
    Effect.ensuring(Effect.sync(() => (memory.walk = 0)))
  )

  return Parked.of({
    want: (yes) =>
      Effect.suspend(() => {
        // Another bridge may give tickets in the meantime.
        if (!yes) learned = false
        return SubscriptionRef.set(wanted, yes)
      }),
    state,
    held: Effect.sync(() => memory.held),
    losses,
    ticket: Effect.sync(() => nextTicket(memory)),
    park,
    walk: (visit, wanted = () => true) => turn.withPermit(walkOn(visit, wanted))
  })
})
