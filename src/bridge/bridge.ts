import { Cause, Effect, Fiber, FiberSet, Option, Result, Stream, SubscriptionRef } from "effect"
import { tell } from "../events.ts"
import { Journal } from "../journal/journal.ts"
import { type Answer, envelope, ownError, rejection, tooLarge } from "../message/answer.ts"
import { type Rejected, readRequest, type Request } from "../message/request.ts"
import { isRead } from "../portal/methods.ts"
import { type Delivery, Intake } from "../queue/intake.ts"
import { until } from "../queue/kept.ts"
import { Outlet } from "../queue/outlet.ts"
import { publishAgain } from "../schedules.ts"
import { Settings } from "../settings.ts"
import { Dispatch } from "./dispatch.ts"
import { inDoubt } from "./doubt.ts"
import type { Place } from "./lines.ts"
import { type Arrival, openParking } from "./parking.ts"
import type { Reply } from "./room.ts"

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
  const journeys = yield* FiberSet.make<void, never>()
  const start = yield* FiberSet.runtime(journeys)<never>()
  const parking = yield* openParking((delivery) => void start(total(delivery)))

  /** The places of requests that are being asked, by their identity. */
  const asking = new Map<string, Place>()

  /** One request, from the queue to the queue. */
  const journey = Effect.fnUntraced(function* (arrival: Arrival): Effect.fn.Return<void> {
    const { request, delivery, place } = arrival
    const answer = yield* answerTo(arrival)
    // Without an answer it is given back: not acknowledged, it returns to the queue with its channel, in its order.
    if (answer === undefined) return
    if ("_tag" in answer) {
      if (!(yield* parking.rest(arrival, answer.until))) yield* journey(arrival)
      return
    }
    if (place !== undefined) dispatch.lines.leave(place)
    if (!(yield* publish(delivery, answer, request.method))) return
    yield* journal.confirmed(request, mayNotRunTwice(request, answer))
    delivery.ack()
    if (settings.logLevel === "debug") yield* answered(request, answer)
  })

  /** The answer to a request: remembered, awaited from a twin that is under way, or asked for. */
  const answerTo = Effect.fnUntraced(function* (arrival: Arrival) {
    const { request, delivery, place } = arrival
    while (!delivery.isLost()) {
      const known = yield* journal.recall(request)
      if (known._tag === "Fresh") return yield* ask(arrival)
      if (known._tag === "Answered")
        return known.confirmed ? { ...known.answer, replayed: true as const } : known.answer
      // Its twin may have come later, as when a broker that was killed brings again what was parked: it must not wait for us.
      const twin = asking.get(request.id)
      if (twin !== undefined && place !== undefined) dispatch.lines.advance(twin, place)
      const answer = yield* known.answer
      if (answer !== undefined) return answer
    }
    return undefined
  })

  const ask = Effect.fnUntraced(function* ({ request, delivery, place }: Arrival) {
    if (place !== undefined) asking.set(request.id, place)
    const reply = yield* dispatch.ask({
      request,
      isRead: isReading(request),
      queue: delivery.queue,
      place,
      mayRest: () => parking.mayRest(delivery),
      crowds: delivery.crowds,
      isLost: delivery.isLost
    })
    asking.delete(request.id)
    if (reply._tag !== "Sent") {
      yield* journal.withdraw(request)
      return reply._tag === "Closed" ? reply : undefined
    }
    const answer = answerFrom(request, reply)
    yield* journal.settle(request, answer)
    if (answer.outcome === "unknown") {
      yield* tell("outcome-unknown", { message_id: request.messageId, method: request.method, user: request.user })
    }
    return answer
  })

  const answerFrom = (request: Request, reply: Extract<Reply, { _tag: "Sent" }>): Answer => {
    const { outcome, attempts } = reply
    const packed = reply.packed ? { packed: true as const } : {}
    switch (outcome._tag) {
      case "Done":
        return { outcome: "done", body: outcome.body, status: outcome.status, attempts, ...packed }
      case "Refused":
        return { outcome: "refused", body: outcome.body, status: outcome.status, attempts, ...packed }
      case "Unknown":
        return { ...inDoubt(request, outcome, attempts, isReading(request)), ...packed }
    }
  }

  /** Publishes until the broker confirms; false if the delivery was lost before, for then its next one is answered. */
  const publish = (delivery: Delivery, answer: Answer, method: string | undefined): Effect.Effect<boolean> => {
    const { incoming, isLost } = delivery
    return outlet
      .publish({ ...envelope(answer, incoming, method), body: answer.body }, () => !isLost())
      .pipe(
        Effect.retry({ schedule: publishAgain, while: (error) => error._tag === "NotConfirmed" && !isLost() }),
        Effect.as(true),
        Effect.catchTags({
          NotConfirmed: () => Effect.succeed(false),
          TooLargeForBroker: () =>
            Effect.andThen(
              tell("answer-too-large", { message_id: incoming.messageId, bytes: answer.body.length }),
              publish(delivery, { ...answer, body: tooLarge(answer.status ?? 0) }, method)
            )
        })
      )
  }

  const reject = Effect.fnUntraced(function* (delivery: Delivery, rejected: Rejected) {
    yield* tell("request-rejected", { message_id: delivery.incoming.messageId, code: rejected.code })
    if (yield* publish(delivery, rejection(rejected), undefined)) delivery.ack()
  })

  /** One delivery, from its arrival to its end. */
  const total = (delivery: Delivery) => {
    let place: Place | undefined
    return Effect.suspend(() => {
      const read = readRequest(delivery.incoming, settings.maxRequest)
      if (Result.isFailure(read)) return reject(delivery, read.failure)
      // Nothing that waits comes before this: its place is that of its arrival.
      place = parking.placeOf(read.success, delivery)
      return journey({ request: read.success, delivery, place })
    }).pipe(
      Effect.catchCause((cause) => broken(delivery, cause)),
      Effect.ensuring(Effect.sync(() => parking.leave(delivery, place)))
    )
  }

  /** A message on which the bridge itself breaks is answered, too: unanswered it would come back for ever. */
  const broken = Effect.fnUntraced(function* (delivery: Delivery, cause: Cause.Cause<never>) {
    if (Cause.hasInterruptsOnly(cause)) return
    yield* tell("broken", { message_id: delivery.incoming.messageId, cause: Cause.pretty(cause) })
    if (yield* publish(delivery, brokenAnswer, undefined)) delivery.ack()
  })

  const isReading = (request: Request) => isRead(request.method, settings.ownReads)

  /** A refused request may be sent again once its cause is removed, and reading again does no harm. */
  const mayNotRunTwice = (request: Request, answer: Answer) => answer.outcome !== "refused" && !isReading(request)

  /** While the portal is away nothing is taken; what was taken is held, and returned once when that takes too long. */
  const mindOutages = Effect.gen(function* () {
    yield* until(dispatch.health, (health) => health === "away")
    yield* tell("intake-paused")
    yield* intake.want("holding")
    const back = until(dispatch.health, (health) => health === "well")
    if (Option.isNone(yield* Effect.timeoutOption(back, settings.hold))) {
      yield* tell("returned-unsent")
      yield* intake.want("returning")
      yield* parking.recall(true)
      yield* back
      yield* parking.recall(false)
    }
    yield* intake.want("taking")
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

  const deciding = yield* Effect.forkScoped(dispatch.run)
  const minding = yield* Effect.forkScoped(Effect.forever(mindOutages))
  const dropping = yield* Effect.forkScoped(Effect.raceFirst(dropLost, Effect.forever(giveUpLost)))
  const fetching = yield* Effect.forkScoped(parking.run)
  const taking = yield* Stream.runForEachArray(intake.deliveries, (arrived) =>
    Effect.sync(() => {
      for (const delivery of arrived) start(total(delivery))
    })
  ).pipe((taking) => Effect.andThen(parking.ready, taking), Effect.forkScoped)
  // Runs before the forked fibers are interrupted, for it is added after them: the channel of the intake has to stay
  // open until the last journey has acknowledged.
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      yield* tell("stopping")
      yield* Fiber.interruptAll([minding, fetching])
      yield* intake.want("holding")
      yield* dispatch.close
      if (Option.isNone(yield* Effect.timeoutOption(FiberSet.awaitEmpty(journeys), settings.drain)))
        yield* tell("drain-cut")
    })
  )
  return yield* Effect.raceAllFirst([
    FiberSet.join(journeys),
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
