import type { ConsumeMessage } from "amqplib"
import {
  Cause,
  Clock,
  Context,
  Data,
  Deferred,
  Duration,
  Effect,
  Layer,
  Option,
  Queue,
  Schedule,
  Stream,
  SubscriptionRef
} from "effect"
import { tell } from "../events.ts"
import { healthy } from "../schedules.ts"
import { Settings } from "../settings.ts"
import { type ChannelLost, during, openChannel, step } from "./channel.ts"
import { closeLimit, Connection, type Link, type LinkLost } from "./connection.ts"
import { type Delivery, Held, type HeldNow, watchAge } from "./held.ts"
import { kept, nextOf, until } from "./kept.ts"
import { lookAt, type QueueMissing, Topology } from "./topology.ts"
import { Window } from "./window.ts"

/**
 * What is wanted of the intake. `holding`: nothing new is taken, what was taken is kept. `returning`: nothing new is
 * taken, and all that was taken and not acknowledged goes back to the queue, in its order.
 */
export type Wanted = "taking" | "holding" | "returning"

/** Why a queue cannot be consumed. */
export interface IntakeTrouble {
  readonly event: "channel-lost" | "queue-missing" | "consumer-cancelled"
  readonly reason: string
}

/** What an operator may see of the way in. */
export interface IntakeSeen {
  readonly queues: ReadonlyArray<{
    readonly queue: string
    readonly consuming: boolean
    readonly trouble: IntakeTrouble | undefined
    /** How many deliveries have come from it so far. */
    readonly taken: number
  }>
  /** Deliveries that are not acknowledged. */
  readonly open: number
  /** When the oldest of them came, in milliseconds of the monotonic clock. */
  readonly oldest: number | undefined
}

/** The broker cancelled the consumer: the queue was deleted, or moved to another node. */
class ConsumerCancelled extends Data.TaggedError("ConsumerCancelled")<{}> {}

/** The way in: deliveries as a stream that outlives channels and connections. */
export class Intake extends Context.Service<
  Intake,
  {
    /** Never ends and never fails: reconnecting happens inside. To be run once. */
    readonly deliveries: Stream.Stream<Delivery>
    readonly want: (wanted: Wanted) => Effect.Effect<void>
    /** True while a consumer is attached. */
    readonly consuming: SubscriptionRef.SubscriptionRef<boolean>
    /** How many deliveries were lost with their channel or given back so far: whoever waits for one looks again. */
    readonly losses: SubscriptionRef.SubscriptionRef<number>
    readonly wanted: SubscriptionRef.SubscriptionRef<Wanted>
    readonly seen: Effect.Effect<IntakeSeen>
    /** What is open now, for each queue that has a channel. */
    readonly held: Effect.Effect<ReadonlyArray<HeldNow>>
    /** Gives back all that is open, and consumes on new channels. */
    readonly restart: Effect.Effect<void>
  }
>()("b24rmq/Intake") {
  static readonly layer = Layer.effect(
    Intake,
    Effect.suspend(() => open)
  )
}

/** A broker has noticed by then that a connection is gone: it lets two heartbeats of 10 s pass, as we do. */
const heartbeatLapse = Duration.seconds(20)

/** A window that has lasted for so long grows without acknowledgements: its link holds. */
const ripening = Duration.seconds(5)

const open = Effect.gen(function* () {
  const { ampqIn, concurrency, prefetch } = yield* Settings
  const connection = yield* Connection
  const topology = yield* Topology
  const wanted = yield* SubscriptionRef.make<Wanted>("taking")
  const consuming = yield* SubscriptionRef.make(false)
  const losses = yield* SubscriptionRef.make(0)
  const clock = yield* Clock.Clock
  const share = Math.max(1, Math.floor(prefetch / ampqIn.length))
  const restarts = yield* SubscriptionRef.make(0)
  const channels = new Map<string, Held>()
  const consumed = new Set<string>()
  const troubles = new Map<string, IntakeTrouble>()
  const taken = new Map<string, number>()
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)

  const consumes = (queue: string, on: boolean) =>
    Effect.suspend(() => {
      if (on) {
        consumed.add(queue)
        troubles.delete(queue)
      } else consumed.delete(queue)
      return SubscriptionRef.set(consuming, consumed.size === ampqIn.length)
    })

  /** Puts the deliveries of one queue where they wait to be taken up. */
  const from = (queue: string) => {
    // The same trouble again and again is one event, until all was well in between.
    let told = ""
    const tellOnce = (event: IntakeTrouble["event"], reason: string) =>
      Effect.suspend(() => {
        troubles.set(queue, { event, reason })
        const again = told === reason
        told = reason
        return again ? Effect.void : tell(event, { queue, reason })
      })

    /**
     * Waits until no delivery is on its way to a consumer: those that a cancel overtakes a quorum queue puts behind all
     * others (3.10.8). While nothing is acknowledged there is none once the consumer has all it may have, or the queue is
     * empty and whatever had left it has come through the channel.
     */
    const nothingUnderway = (link: Link, held: Held, consumerTag: string, size: number) =>
      Effect.raceFirst(
        held.whenever(() => held.lentTo(consumerTag) >= size),
        lookAt(link, queue).pipe(
          Effect.repeat({ until: ({ messageCount }) => messageCount === 0, schedule: Schedule.spaced("50 millis") }),
          Effect.andThen(step("basic.qos", () => held.channel.prefetch(size)))
        )
      ).pipe(Effect.timeout("1 second"), Effect.ignore)

    /** One consumer, until the scope closes. What comes of it fails when the broker cancels it. */
    const consumer = Effect.fnUntraced(function* (
      link: Link,
      held: Held,
      size: number,
      deliver: (message: ConsumeMessage) => void
    ) {
      const { channel } = held
      const cancelled = yield* Deferred.make<never, ConsumerCancelled>()
      // A prefetch counts for the consumers that come after it.
      yield* step("basic.qos", () => channel.prefetch(size))
      yield* Effect.acquireRelease(
        step("basic.consume", () =>
          channel.consume(queue, (message) =>
            message === null
              ? void Deferred.doneUnsafe(cancelled, Effect.fail(new ConsumerCancelled()))
              : deliver(message)
          )
        ),
        ({ consumerTag }) => {
          const cancel = Effect.tryPromise(async () => channel.cancel(consumerTag))
          const ending = Effect.andThen(
            nothingUnderway(link, held, consumerTag, size),
            Effect.ignore(Effect.timeout(cancel, closeLimit))
          )
          return held.withoutAcks(Deferred.isDoneUnsafe(cancelled) || held.isSpoilt ? Effect.void : ending)
        },
        { interruptible: true }
      )
      yield* Effect.acquireRelease(
        Effect.sync(() => held.attach(true)),
        () => Effect.sync(() => held.attach(false))
      )
      return Deferred.await(cancelled)
    })

    /** Consumes with the window as it is, until that is due to change or nothing more is to be taken. */
    const consume = (link: Link, held: Held, deliver: (message: ConsumeMessage) => void, ready: Effect.Effect<void>) =>
      Effect.gen(function* () {
        const { window } = held
        const cancelled = yield* consumer(link, held, window.size, deliver)
        yield* ready
        yield* Effect.raceAllFirst([
          cancelled,
          until(wanted, (now) => now !== "taking"),
          held.whenever(() => window.isDue),
          Effect.andThen(Effect.sleep(ripening), held.ripen)
        ])
      }).pipe(Effect.scoped)

    /** Waits until there are no more consumers than our own, and gives how many messages lie in the queue then. */
    const alone = (link: Link, own: number) =>
      lookAt(link, queue).pipe(
        Effect.repeat({ until: ({ consumerCount }) => consumerCount <= own, schedule: Schedule.spaced("50 millis") }),
        Effect.timeoutOption(isShared ? 0 : heartbeatLapse),
        Effect.tap((seen) => {
          const before = isShared
          isShared = Option.isNone(seen)
          return isShared && !before ? tell("queue-shared", { queue }) : Effect.void
        }),
        Effect.map((seen) => Option.getOrUndefined(seen)?.messageCount)
      )

    /**
     * For a moment a quorum queue whose broker was killed says that it is empty and has no consumers, or what was long
     * ago, and it brings what a dead consumer had in hand after later messages (seen with 3.10.8). What a consumer is told
     * on its entry comes from a log behind all that was before. So the first one takes a single message. If nothing but
     * that has changed, it is the first of the queue. Else others had something, which is back now, before the messages
     * that were never delivered: such a one has to go back behind it.
     */
    const survey = (
      link: Link,
      held: Held,
      lay: number,
      deliver: (message: ConsumeMessage) => void,
      ready: Effect.Effect<void>
    ) =>
      Effect.gen(function* () {
        const first = yield* Deferred.make<ConsumeMessage>()
        let handed = false
        let over = false
        // After the consumer's end: what came meanwhile and nobody has taken comes again, in its place.
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            over = true
            if (Deferred.isDoneUnsafe(first) && !handed) held.spoil()
          })
        )
        const cancelled = yield* consumer(link, held, 1, (message) => {
          if (over) return held.spoil()
          // Those that follow came after its acknowledgement.
          if (!Deferred.doneUnsafe(first, Effect.succeed(message))) deliver(message)
        })
        const isFirst = Effect.gen(function* () {
          const { consumerCount, messageCount } = yield* lookAt(link, queue)
          if (consumerCount === 1 && messageCount === Math.max(0, lay - 1)) return true
          yield* alone(link, 1)
          const came = yield* Deferred.poll(first)
          return isShared || (Option.isSome(came) && (yield* came.value).fields.redelivered)
        })
        let passed = false
        const looking = Effect.gen(function* () {
          passed = yield* isFirst
          surveyed = link
          if (!passed) return
          yield* ready
          // Nothing is on its way to a consumer that holds all it may have: then it can be cancelled.
          const message = yield* Deferred.await(first)
          handed = true
          deliver(message)
        })
        yield* Effect.raceAllFirst([cancelled, looking, until(wanted, (now) => now !== "taking")]).pipe(
          Effect.ensuring(Effect.sync(() => passed || held.spoil()))
        )
      }).pipe(Effect.scoped)

    /** Consumes on one channel while that is wanted. What was delivered stays with us when the broker cancels. */
    const subscription = (link: Link, held: Held, deliver: (message: ConsumeMessage) => void) =>
      Effect.fnUntraced(function* (well: Effect.Effect<void>) {
        yield* until(wanted, (now) => now === "taking")
        yield* topology.ensure(link, queue)
        // What a lost connection had in hand comes back to the queue together with the end of its consumer. Until the broker
        // has noticed that end, later requests would be taken before those.
        const isOurs = surveyed === link && held.open.size > 0
        const lay = isOurs ? undefined : yield* alone(link, 0)
        yield* Effect.addFinalizer(() => consumes(queue, false))
        const begun = Effect.gen(function* () {
          yield* well
          if (consumed.has(queue)) return
          told = ""
          yield* consumes(queue, true)
          yield* tell("consuming", { queue, prefetch: share })
        })
        if (lay !== undefined && surveyed !== link) yield* survey(link, held, lay, deliver, begun)
        if (held.isSpoilt) return yield* Effect.never
        while (SubscriptionRef.getUnsafe(wanted) === "taking") {
          yield* consume(link, held, deliver, begun)
          if (held.window.isOverfull) yield* held.whenever(() => held.window.isRelieved)
          held.window.adjust()
        }
      })

    /** Somebody else consumes the queue, and goes on to. */
    let isShared = false

    /** The connection on which it is known who consumes the queue. */
    let surveyed: Link | undefined

    // Few deliveries are opened after a channel was lost: the next one may be lost as soon.
    let lostAt = Number.NEGATIVE_INFINITY
    const firstWindow = (now: number) => (now - lostAt < Duration.toMillis(healthy) ? concurrency : share)

    /** One channel, until it is lost or everything on it is to be returned. */
    const onLink = Effect.fnUntraced(function* (link: Link, buffer: Arrivals, well: Effect.Effect<void>) {
      const { channel, lost, isLost } = yield* openChannel(link, ({ model }) => model.createChannel())
      // Once the channel is to be closed its deliveries are as good as lost, though the broker has not said so yet.
      let closing = false
      const held = new Held(channel, new Window(firstWindow(now()), share), clock, () => closing || isLost())
      yield* watchAge(held)
      yield* Effect.acquireRelease(
        Effect.sync(() => channels.set(queue, held)),
        () => Effect.sync(() => channels.delete(queue))
      )
      yield* Effect.addFinalizer(() => {
        held.acknowledge()
        closing = true
        lostAt = now()
        return SubscriptionRef.update(losses, (count) => count + 1)
      })
      const deliver = (message: ConsumeMessage) => {
        taken.set(queue, (taken.get(queue) ?? 0) + 1)
        Queue.offerUnsafe(buffer, held.take(message, queue))
      }
      yield* well
      yield* Effect.raceAllFirst([
        lost,
        until(wanted, (now) => now === "returning"),
        nextOf(restarts),
        held.whenever(() => held.window.isBursting || held.isSpoilt),
        kept(subscription(link, held, deliver), ended)
      ])
    }, Effect.scoped)

    const session = (buffer: Arrivals) =>
      Effect.fnUntraced(function* (well: Effect.Effect<void>) {
        const link = yield* connection.await
        yield* until(wanted, (now) => now !== "returning")
        yield* during(link, onLink(link, buffer, well))
      })

    /** Says why, and whether to wait. A link that is lost is told of by the connection, and waited for by the session. */
    const ended = (cause: Cause.Cause<ConsumerCancelled | QueueMissing | ChannelLost | LinkLost>) => {
      const error = Option.getOrUndefined(Cause.findErrorOption(cause))
      switch (error?._tag) {
        case "LinkLost":
          return Effect.succeed("at once" as const)
        case "ConsumerCancelled":
          return Effect.as(tellOnce("consumer-cancelled", "cancelled by the broker"), "wait" as const)
        case "QueueMissing":
          return Effect.as(tellOnce("queue-missing", error.message), "wait" as const)
        case "ChannelLost":
          return Effect.as(tellOnce("channel-lost", error.reason), "wait" as const)
        case undefined:
          return cause.reasons.length === 0
            ? Effect.succeed("at once" as const)
            : Effect.as(tellOnce("channel-lost", Cause.pretty(cause)), "wait" as const)
      }
    }

    return (buffer: Arrivals) => kept(session(buffer), ended)
  }

  return Intake.of({
    // One buffer for all queues: each that a delivery goes through is a turn of the event loop.
    deliveries: Stream.callback<Delivery>((buffer) =>
      Effect.forEach(ampqIn, (queue) => from(queue)(buffer), { concurrency: "unbounded", discard: true })
    ),
    want: (next) => SubscriptionRef.set(wanted, next),
    consuming,
    losses,
    held: Effect.sync(() => Array.from(channels, ([queue, held]) => ({ queue, ...held.now }))),
    restart: SubscriptionRef.update(restarts, (count) => count + 1),
    wanted,
    seen: Effect.sync(() => {
      let open = 0
      let oldest: number | undefined
      for (const held of channels.values()) {
        open += held.open.size
        const [first] = held.open.values()
        if (first !== undefined) oldest = Math.min(oldest ?? Infinity, first.since)
      }
      const queues = ampqIn.map((queue) => ({
        queue,
        consuming: consumed.has(queue),
        trouble: troubles.get(queue),
        taken: taken.get(queue) ?? 0
      }))
      return { queues, open, oldest }
    })
  })
})

/** Where deliveries wait to be taken up. */
type Arrivals = Queue.Enqueue<Delivery, Cause.Done>
