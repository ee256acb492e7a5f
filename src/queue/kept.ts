import { Cause, Clock, Duration, Effect, Exit, Option, Schedule, type Scope, Stream, SubscriptionRef } from "effect"
import { fullJitter, healthy, reconnect } from "../schedules.ts"

/**
 * Keeps something alive that lives in a scope: opens it, and when it ends, however it ends, opens it again after the
 * reconnect schedule. An outage counts as a new one after 60 s of health. Runs until it is interrupted.
 *
 * `session` opens, calls `well` once it works, and lasts until the thing is lost. `ended` is told why, and may say that
 * no wait is needed.
 */
export const kept = <E, R>(
  session: (well: Effect.Effect<void>) => Effect.Effect<unknown, E, R | Scope.Scope>,
  ended: (cause: Cause.Cause<E>) => Effect.Effect<"wait" | "at once">
): Effect.Effect<never, never, Exclude<R, Scope.Scope>> =>
  Effect.gen(function* () {
    let pause = yield* Schedule.toStepWithSleep(fullJitter(reconnect))
    while (true) {
      let wellSince: bigint | undefined
      const well = Effect.map(Clock.monotonicTimeNanos, (now) => void (wellSince ??= now))
      const exit = yield* Effect.exit(Effect.scoped(session(well)))
      const now = yield* Clock.monotonicTimeNanos
      if (wellSince !== undefined && now - wellSince >= nanos(healthy)) {
        pause = yield* Schedule.toStepWithSleep(fullJitter(reconnect))
      }
      const next = yield* ended(Exit.isFailure(exit) ? exit.cause : Cause.empty)
      if (next === "wait") yield* Effect.orDie(pause(undefined))
    }
  })

const nanos = (duration: Duration.Duration) => BigInt(Math.round(Duration.toMillis(duration))) * 1_000_000n

/** Waits until a value is as wanted, and returns it. */
export const until: {
  <A, B extends A>(ref: SubscriptionRef.SubscriptionRef<A>, wanted: (value: A) => value is B): Effect.Effect<B>
  <A>(ref: SubscriptionRef.SubscriptionRef<A>, wanted: (value: A) => boolean): Effect.Effect<A>
} = <A>(ref: SubscriptionRef.SubscriptionRef<A>, wanted: (value: A) => boolean): Effect.Effect<A> =>
  SubscriptionRef.changes(ref).pipe(Stream.filter(wanted), Stream.runHead, Effect.map(Option.getOrThrow))
