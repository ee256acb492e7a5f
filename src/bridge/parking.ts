import { Clock, Duration, Effect, Option, Queue, Result, Stream, SubscriptionRef } from "effect"
import { readRequest, type Request } from "../message/request.ts"
import * as Metrics from "../metrics.ts"
import { isRead } from "../portal/methods.ts"
import type { Delivery } from "../queue/held.ts"
import { until } from "../queue/kept.ts"
import { isParked, Parked } from "../queue/parked.ts"
import type { Note, ParkedDelivery, Verdict } from "../queue/walk.ts"
import { Settings } from "../settings.ts"
import type { Ages } from "./age.ts"
import { Dispatch } from "./dispatch.ts"
import type { Stage } from "./journeys.ts"
import type { Place } from "./lines.ts"
import { lineOf } from "./order.ts"
import { Pause } from "./pause.ts"

/** A request that has arrived, what it came with, and its place in its line. */
export interface Arrival {
  readonly request: Request
  readonly isRead: boolean
  readonly delivery: Delivery
  readonly place: Place | undefined
  /** Until when it may leave, in milliseconds since 1970; for ever if undefined. */
  readonly deadline: number | undefined
  /** When it came, in milliseconds of the monotonic clock. */
  readonly since: number
  /** It has come to another stage of its journey. */
  readonly at: (stage: Stage) => void
}

/** Those that rest are looked at after so long, whatever is known of them. */
const longestRest = 600_000

/** Those who become too old within so long are fetched together: each fetch moves all that rest. */
const longestStep = 10_000

/** How long one that could not be parked, or a walk that was cut, waits before it is tried again. */
const afterFailure = 1_000

/** Longer bodies are not parked: as many as the window holds are brought at once, and have to fit into memory. */
const longestBody = 64 * 1024

/**
 * Lets requests rest in the queue of parked ones while their method is closed, and fetches them when it may be open.
 * `start` is given each that is fetched. Times are milliseconds of the monotonic clock.
 */
export const openParking = Effect.fnUntraced(function* (start: (delivery: ParkedDelivery) => void, ages: Ages) {
  const { maxAge, maxRequest, ownReads, prefetch } = yield* Settings
  const dispatch = yield* Dispatch
  const parked = yield* Parked
  const paused = yield* Pause
  const clock = yield* Clock.Clock
  const record = yield* Metrics.recorder
  const { lines } = dispatch
  const wakes = yield* Queue.sliding<void>(1)
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  /** What another process has parked is known: until then nobody can tell who comes first in a line. */
  const learned = yield* SubscriptionRef.make(false)
  /** What is written on one that was to be parked: it keeps that if it is not, and tries again. */
  const notes = new WeakMap<Request, Note>()
  /** When to fetch again. */
  let next = 0
  let fetched = 0
  /** Some were left for want of room, or for one before them that was fetched later in the same walk. */
  let unfinished = false
  let recalled = false

  /** Fetches at this time at the latest. */
  const fetchAt = (at: number) => {
    if (at >= next) return
    next = at
    Queue.offerUnsafe(wakes, undefined)
  }

  const wall = () => clock.currentTimeMillisUnsafe()
  const step = maxAge === undefined ? longestStep : Math.min(longestStep, Duration.toMillis(maxAge) / 10)

  /** Fetches one that rests once it is too old. */
  const fetchTooOld = (deadline: number | undefined) => {
    if (deadline !== undefined) fetchAt(now() + Math.ceil(deadline / step) * step - wall())
  }

  /** Whether there is somewhere to rest for it. */
  const mayRest = ({ incoming }: Delivery) =>
    incoming.body.length <= longestBody &&
    SubscriptionRef.getUnsafe(learned) &&
    SubscriptionRef.getUnsafe(parked.state) === "open"

  const park = Effect.fnUntraced(function* ({ request, delivery, place, deadline }: Arrival) {
    const note = notes.get(request) ?? {
      ticket: yield* parked.ticket,
      since: wall(),
      deadline
    }
    notes.set(request, note)
    if (place !== undefined) lines.number(place, note.ticket)
    yield* parked.park(delivery, note)
    record(Metrics.parked, 1)
    if (place !== undefined) lines.rest(place)
    fetchTooOld(deadline)
    delivery.ack()
  })

  /** Lets one rest until its method opens, or behind one that rests. False if it could not be parked, after a while. */
  const rest = (arrival: Arrival, opens: number | undefined): Effect.Effect<boolean> =>
    // One that was fetched is put back when it leaves.
    (isParked(arrival.delivery) ? Effect.void : park(arrival)).pipe(
      // The one that it follows may have been fetched in the meantime.
      Effect.andThen(Effect.sync(() => fetchAt(opens ?? now() + afterFailure))),
      Effect.as(true),
      Effect.catch(() => Effect.as(Effect.sleep(afterFailure), false))
    )

  /** The place of one that arrives now. */
  const placeOf = (request: Request, delivery: Delivery): Place | undefined => {
    const line = lineOf(request)
    if (line === undefined) return undefined
    if (!isParked(delivery)) return lines.join(line, request.id)
    const place = lines.find(line, delivery.ticket)
    lines.wake(place)
    return place
  }

  /** One leaves, however its journey has ended. */
  const leave = (delivery: Delivery, place: Place | undefined) => {
    if (isParked(delivery)) {
      fetched--
      if (unfinished && 2 * fetched <= prefetch) fetchAt(now())
      if (delivery.putBack()) {
        record(Metrics.parked, 1)
        if (place !== undefined) return lines.rest(place)
      }
    }
    if (place === undefined || place.resting) return
    if (delivery.isLost()) lines.await(place)
    else lines.leave(place)
  }

  const join = (delivery: ParkedDelivery): Verdict => {
    if (!SubscriptionRef.getUnsafe(learned)) return "keep"
    fetched++
    record(Metrics.unparked, 1)
    start({ ...delivery, isLost: () => recalled || delivery.isLost() })
    return "join"
  }

  const walk = Effect.gen(function* () {
    const before = new Set(lines.resting)
    /** Lines of which one was left for one before it that rests. */
    const passed = new Set<string>()
    const visit = (delivery: ParkedDelivery): Verdict => {
      const read = readRequest(delivery.incoming, maxRequest)
      if (Result.isFailure(read)) return join(delivery)
      const line = lineOf(read.success)
      const place = line === undefined ? undefined : lines.find(line, delivery.ticket)
      if (place !== undefined) {
        lines.rest(place)
        before.delete(place)
      }
      const deadline = ages.deadlineOf(read.success, delivery, wall())
      if (deadline !== undefined && deadline <= wall()) return join(delivery)
      fetchTooOld(deadline)
      const opens = dispatch.closedUntil(read.success, isRead(read.success.method, ownReads))
      if (opens !== undefined) {
        fetchAt(opens)
        return "keep"
      }
      if (place === undefined) return join(delivery)
      if (lines.isBehindResting(place)) {
        passed.add(place.line)
        return "keep"
      }
      unfinished ||= passed.has(place.line)
      return join(delivery)
    }
    unfinished = false
    const { whole } = yield* parked.walk(visit, () => !recalled)
    if (!whole) return void (unfinished = true)
    // Whoever emptied the queue must not leave their lines waiting for ever.
    for (const place of before) if (place.resting) lines.leave(place)
    if (SubscriptionRef.getUnsafe(learned)) return
    fetchAt(now())
    yield* SubscriptionRef.set(learned, true)
  })

  /** Walks once more when one of those that rest may go. */
  const fetch = Effect.gen(function* () {
    while (next > now()) {
      const woken = yield* Effect.timeoutOption(Queue.take(wakes), Math.min(next - now(), longestRest))
      if (Option.isNone(woken)) break
    }
    yield* until(parked.state, (state) => state === "open")
    yield* until(dispatch.health, (health) => health === "well")
    yield* until(paused.since, (since) => since === undefined)
    next = now() + longestRest
    const isNeeded = !SubscriptionRef.getUnsafe(learned) || (yield* parked.held) > 0
    if (isNeeded && !recalled) yield* Effect.catch(walk, () => Effect.sync(() => fetchAt(now() + afterFailure)))
    if (unfinished && 2 * fetched <= prefetch) fetchAt(now() + afterFailure)
  })

  const dropLost = Stream.runForEach(SubscriptionRef.changes(parked.losses), () => dispatch.look)

  /** What was fetched has come back with a lost channel, and others may rest again. */
  const followState = Stream.runForEach(SubscriptionRef.changes(parked.state), () =>
    Effect.andThen(
      Effect.sync(() => fetchAt(now())),
      dispatch.look
    )
  )

  return {
    placeOf,
    mayRest,
    rest,
    leave,
    /** Runs until it is interrupted. */
    run: Effect.raceAllFirst([Effect.forever(fetch), dropLost, followState]),
    /** Reads what is parked, or leaves that to another bridge. */
    want: (wanted: boolean) =>
      Effect.suspend(() => {
        fetchAt(now())
        return Effect.andThen(SubscriptionRef.set(learned, false), parked.want(wanted))
      }),
    /** Waits until new requests may be taken: what rests from before is known, or there is nowhere to rest. */
    ready: Effect.raceFirst(
      until(learned, (yes) => yes),
      until(parked.state, (state) => state === "absent")
    ),
    /** Has all that was fetched put back, and fetches no more, until that is taken back. */
    recall: (all: boolean) =>
      Effect.suspend(() => {
        recalled = all
        if (!all) fetchAt(now())
        return dispatch.look
      })
  }
})

export type Parking = Effect.Success<ReturnType<typeof openParking>>
