import { Cause, Clock, Duration, Effect, Exit, Option, Schedule, type Scope, Stream, SubscriptionRef } from "effect"
import { fullJitter, healthy, reconnect } from "../schedules.ts"

/**
 * Keeps something alive that lives in a scope: opens it, and when it ends, however it ends, opens it again after the
 * reconnect schedule. Runs until it is interrupted.
 *
 * `session` opens, calls `well` once it works, and lasts until the thing is lost. `ended` is told why, and may say that
 * no wait is needed.
 *
 * The schedule is one of an outage: the time in which all was well does not count towards it, so that a broker that is
 * restarted twice is back as soon as after the first time. After 60 s of health the next outage is a new one.
 */
export const kept = <E, R>(
  session: (well: Effect.Effect<void>) => Effect.Effect<unknown, E, R | Scope.Scope>,
  ended: (cause: Cause.Cause<E>) => Effect.Effect<"wait" | "at once">
): Effect.Effect<never, never, Exclude<R, Scope.Scope>> =>
  Effect.gen(function* () {
    let next = yield* Schedule.toStep(fullJitter(reconnect))
    let outage = 0
    while (true) {
      const opened = yield* now
      let wellSince: number | undefined
      const well = Effect.map(now, (at) => void (wellSince ??= at))
      const exit = yield* Effect.exit(Effect.scoped(session(well)))
      const over = yield* now
      if (wellSince === undefined) outage += over - opened
      else if (over - wellSince >= Duration.toMillis(healthy)) {
        next = yield* Schedule.toStep(fullJitter(reconnect))
        outage = 0
      }
      if ((yield* ended(Exit.isFailure(exit) ? exit.cause : Cause.empty)) === "at once") continue
      const [, wait] = yield* Effect.orDie(next(outage, undefined))
      yield* Effect.sleep(wait)
      outage += Duration.toMillis(wait)
    }
  })

const now = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos / 1_000_000n))

/** Waits until a count is no longer what it is now. */
export const nextOf = (count: SubscriptionRef.SubscriptionRef<number>): Effect.Effect<number> =>
  Effect.suspend(() => {
    const before = SubscriptionRef.getUnsafe(count)
    return until(count, (now) => now !== before)
  })

/** Waits until a value is as wanted, and returns it. */
export const until: {
  <A, B extends A>(ref: SubscriptionRef.SubscriptionRef<A>, wanted: (value: A) => value is B): Effect.Effect<B>
  <A>(ref: SubscriptionRef.SubscriptionRef<A>, wanted: (value: A) => boolean): Effect.Effect<A>
} = <A>(ref: SubscriptionRef.SubscriptionRef<A>, wanted: (value: A) => boolean): Effect.Effect<A> =>
  SubscriptionRef.changes(ref).pipe(Stream.filter(wanted), Stream.runHead, Effect.map(Option.getOrThrow))
