import {
  Cause,
  Clock,
  type Duration,
  Effect,
  Fiber,
  FiberSet,
  Latch,
  MutableRef,
  Option,
  Result,
  Stream,
  SubscriptionRef
} from "effect"
import { tell } from "../events.ts"
import { Journal } from "../journal/journal.ts"
import { type Answer, envelope, ownError, rejection, tooLarge } from "../message/answer.ts"
import { type Rejected, readRequest, type Request } from "../message/request.ts"
import { answers, recorder, taken } from "../metrics.ts"
import { isRead } from "../portal/methods.ts"
import type { Delivery } from "../queue/held.ts"
import { Intake, type Wanted } from "../queue/intake.ts"
import { until } from "../queue/kept.ts"
import { type NotConfirmed, Outlet, type TooLargeForBroker } from "../queue/outlet.ts"
import { publishAgain, publishPause } from "../schedules.ts"
import { Settings } from "../settings.ts"
import { openAges } from "./age.ts"
import { openAsking } from "./asking.ts"
import { Dispatch } from "./dispatch.ts"
import { Journeys, type Stage } from "./journeys.ts"
import type { Place } from "./lines.ts"
import { type Arrival, openParking } from "./parking.ts"
import { Pause } from "./pause.ts"
import { Replay } from "./replay.ts"
import { Tally } from "./tally.ts"

/** How long after a broker is back it may take until it has brought again what was lost. */
const comesAgainWithin = "15 seconds"

/**
 * The product: takes requests from the queue, has each one called, puts its answer into the other queue, and only then
 * acknowledges it. Runs until it is interrupted; then what is in flight is finished within `B24RMQ_DRAIN`.
 */
export const bridge = Effect.gen(function* () {
  const settings = yield* Settings
  const intake = yield* Intake
  const outlet = yield* Outlet
  const journal = yield* Journal
  const dispatch = yield* Dispatch
  const replay = yield* Replay
  const paused = yield* Pause
  const tally = yield* Tally
  const clock = yield* Clock.Clock
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  const record = yield* recorder
  const journeys = yield* Journeys
  const fibers = yield* FiberSet.make<void, never>()
  const start = yield* FiberSet.runtime(fibers)<never>()
  const ages = openAges(settings.maxAge)
  const parking = yield* openParking((delivery) => void start(total(delivery)), ages)
  const stopping = yield* Latch.make()
  const pause = (duration: Duration.Input) =>
    Effect.raceFirst(Effect.as(Effect.sleep(duration), true), Effect.as(stopping.await, false))
  const asking = yield* openAsking(parking.mayRest, ages.tooOld, start, pause)

  /** One request, from the queue to the queue. */
  const journey = Effect.fnUntraced(function* (arrival: Arrival): Effect.fn.Return<void> {
    const { request, delivery, place, at } = arrival
    const answer = yield* asking.answerTo(arrival)
    // Without an answer it is given back: not acknowledged, it returns to the queue with its channel, in its order.
    if (answer === undefined) return
    if ("_tag" in answer) {
      at("parking")
      if (!(yield* parking.rest(arrival, answer.until))) yield* journey(arrival)
      return
    }
    if (place !== undefined) dispatch.lines.leave(place)
    at("answer")
    if (!(yield* give(delivery, answer, request.method))) return
    at("journal")
    yield* asking.confirmed(arrival, answer)
    ages.forget(request)
    delivery.ack()
    tally.answered(answer.outcome, arrival.since)
    if (MutableRef.get(settings.live).logLevel === "debug") yield* answered(request, answer)
  })

  /**
   * Publishes an answer until the broker confirms, and keeps the request if an operator may mend it. False if the delivery
   * was lost before, for then its next one is answered.
   */
  const give = (
    delivery: Delivery,
    answer: Answer,
    method: string | undefined,
    body = answer.body
  ): Effect.Effect<boolean> => {
    const { incoming, isLost } = delivery
    const once = outlet.publish({ ...envelope(answer, incoming, method), body }, () => !isLost())
    const goesOn = (error: NotConfirmed | TooLargeForBroker) => error._tag === "NotConfirmed" && !isLost()
    const published = (attempts: typeof once): Effect.Effect<boolean> =>
      Effect.matchEffect(attempts, {
        onSuccess: () => {
          record(answers[answer.outcome], 1)
          return Effect.as(replay.settled(delivery, answer), true)
        },
        onFailure: (error) => {
          if (isLost()) return Effect.succeed(false)
          // A schedule is set up only when it is needed: one for each answer takes a tenth of all that a request costs.
          if (error._tag === "NotConfirmed")
            return published(Effect.delay(Effect.retry(once, { schedule: publishAgain, while: goesOn }), publishPause))
          return Effect.andThen(
            tell("answer-too-large", { message_id: incoming.messageId, bytes: body.length }),
            give(delivery, answer, method, tooLarge(answer.status ?? 0))
          )
        }
      })
    return published(once)
  }

  const reject = Effect.fnUntraced(function* (delivery: Delivery, rejected: Rejected, since: number) {
    const { messageId } = delivery.incoming
    tally.refused({ code: rejected.code, messageId, method: undefined, credential: undefined })
    yield* tell("request-rejected", { message_id: delivery.incoming.messageId, code: rejected.code })
    if (!(yield* give(delivery, rejection(rejected), undefined))) return
    delivery.ack()
    tally.answered("rejected", since)
  })

  /** One delivery, from its arrival to its end. */
  const total = (delivery: Delivery) => {
    const since = now()
    tally.begun()
    const way = journeys.begin(delivery, since)
    const at = (stage: Stage) => {
      way.stage = stage
    }
    let place: Place | undefined
    return Effect.suspend(() => {
      const read = readRequest(delivery.incoming, settings.maxRequest)
      if (Result.isFailure(read)) {
        at("answer")
        return reject(delivery, read.failure, since)
      }
      const request = read.success
      way.request = request
      // Nothing that waits comes before this: its place is that of its arrival.
      place = parking.placeOf(request, delivery)
      const deadline = ages.deadlineOf(request, delivery, clock.currentTimeMillisUnsafe())
      const arrival = {
        request,
        isRead: isRead(request.method, settings.ownReads),
        delivery,
        place,
        deadline,
        since,
        at
      }
      return Effect.onError(journey(arrival), () => journal.release(request))
    }).pipe(
      Effect.catchCause((cause) => {
        at("answer")
        return broken(delivery, cause)
      }),
      Effect.ensuring(
        Effect.sync(() => {
          tally.ended()
          parking.leave(delivery, place)
          journeys.end(way)
        })
      )
    )
  }

  /** A message on which the bridge itself breaks is answered, too: unanswered it would come back for ever. */
  const broken = Effect.fnUntraced(function* (delivery: Delivery, cause: Cause.Cause<never>) {
    if (Cause.hasInterruptsOnly(cause)) return
    yield* tell("broken", { message_id: delivery.incoming.messageId, cause: Cause.pretty(cause) })
    if (yield* give(delivery, brokenAnswer, undefined)) delivery.ack()
  })

  const wants = new Map<"portal" | "journal" | "operator", Wanted>()

  /** Of what portal, journal and operator want of the intake, the stricter counts. */
  const want = (who: "portal" | "journal" | "operator", wanted: Wanted) =>
    Effect.suspend(() => {
      wants.set(who, wanted)
      const all = new Set(wants.values())
      const strictest = all.has("returning") ? "returning" : all.has("holding") ? "holding" : "taking"
      return Effect.andThen(intake.want(strictest), parking.recall(strictest === "returning"))
    })

  /** Takes nothing until `over`. What was taken is held, and goes back to the queue once when that takes too long. */
  const hold = Effect.fnUntraced(function* (who: "portal" | "operator", over: Effect.Effect<unknown>) {
    yield* want(who, "holding")
    if (Option.isNone(yield* Effect.timeoutOption(over, settings.hold))) {
      yield* tell("returned-unsent")
      yield* want(who, "returning")
      yield* over
    }
    yield* want(who, "taking")
  })

  const mindPortal = Effect.gen(function* () {
    yield* until(dispatch.health, (health) => health === "away")
    yield* tell("intake-paused")
    yield* hold(
      "portal",
      until(dispatch.health, (health) => health === "well")
    )
  })

  const mindPause = Effect.gen(function* () {
    yield* until(paused.since, (since) => since !== undefined)
    yield* tell("paused")
    yield* hold(
      "operator",
      until(paused.since, (since) => since === undefined)
    )
    yield* tell("resumed")
  })

  /** Before anything is taken. */
  const holdIfPaused = Effect.suspend(() =>
    SubscriptionRef.getUnsafe(paused.since) === undefined ? Effect.void : want("operator", "holding")
  )

  /** Reads what is parked before it takes anything, for nothing may come before that. */
  const work = Effect.gen(function* () {
    yield* paused.known
    yield* holdIfPaused
    yield* parking.want(true)
    yield* want("journal", "holding")
    yield* parking.ready
    // What this one had taken when another bridge took over was that one's to answer.
    dispatch.lines.giveUp()
    yield* want("journal", "taking")
    return yield* Effect.never
  })

  /** The bridge that holds the journal works, and no other one reads its queues. The rest stand by. */
  const mindJournal = Effect.gen(function* () {
    yield* until(journal.state, ({ _tag }) => _tag === "ready" || _tag === "failed")
    while (true) {
      yield* Effect.raceFirst(
        work,
        until(journal.state, ({ _tag }) => _tag === "standby")
      )
      yield* want("journal", "returning")
      yield* parking.want(false)
      // That the store cannot be asked does not mean that the other one is gone.
      yield* until(journal.state, ({ _tag }) => _tag === "ready")
    }
  })

  /** What was lost and has not come again by then is not coming. */
  const giveUpLost = Effect.gen(function* () {
    yield* until(intake.consuming, (consuming) => consuming)
    const interrupted = until(intake.consuming, (consuming) => !consuming)
    if (Option.isSome(yield* Effect.timeoutOption(interrupted, comesAgainWithin))) return
    dispatch.lines.giveUp()
    yield* interrupted
  })

  const dropLost = Stream.runForEach(SubscriptionRef.changes(intake.losses), () => dispatch.look)

  yield* want("journal", "returning")
  const deciding = yield* Effect.forkScoped(dispatch.run)
  const minding = yield* Effect.forkScoped(
    Effect.raceAllFirst([Effect.forever(mindPortal), Effect.forever(mindPause), mindJournal])
  )
  const dropping = yield* Effect.forkScoped(Effect.raceFirst(dropLost, Effect.forever(giveUpLost)))
  const fetching = yield* Effect.forkScoped(parking.run)
  const taking = yield* Stream.runForEachArray(intake.deliveries, (arrived) =>
    Effect.sync(() => {
      record(taken, arrived.length)
      for (const delivery of arrived) start(total(delivery))
    })
  ).pipe(Effect.forkScoped)
  // Runs before the forked fibers are interrupted, for it is added after them: the channel of the intake has to stay
  // open until the last journey has acknowledged.
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      yield* tell("stopping")
      yield* Fiber.interruptAll([minding, fetching])
      yield* intake.want("holding")
      yield* stopping.open
      yield* dispatch.close
      if (Option.isNone(yield* Effect.timeoutOption(FiberSet.awaitEmpty(fibers), settings.drain)))
        yield* tell("drain-cut")
    })
  )
  return yield* Effect.raceAllFirst([
    FiberSet.join(fibers),
    ...[taking, deciding, minding, fetching, dropping].map((fiber) => Fiber.join<unknown, never>(fiber))
  ])
})

const answered = (request: Request, answer: Answer) =>
  tell("request-answered", {
    message_id: request.messageId,
    method: request.method,
    user: request.user,
    outcome: answer.outcome,
    status: answer.status,
    attempts: answer.attempts
  })

const brokenAnswer: Answer = {
  outcome: "unknown",
  body: ownError(
    "B24RMQ_DEFECT",
    "The bridge failed on this message. It may or may not have been executed; the bridge's log says more."
  ),
  status: undefined,
  attempts: 0
}
