import { test } from "bun:test"
import { Duration, Effect, type Scope } from "effect"
import { TestClock } from "effect/testing"

type Body<E> = () => Effect.Effect<unknown, E, Scope.Scope>

/** How long before Bun's own limit a test ends itself, so that its scopes close and what it started is stopped. */
const farewell = 5_000

/** A test of an effect on the real clock: for the rig with a real broker or a real socket. `ms` is the time limit. */
export const live = <E>(name: string, body: Body<E>, ms = 60_000) => define(test, name, body, ms)

/** The same for one that mostly waits: it runs beside its neighbours. */
export const liveBeside = <E>(name: string, body: Body<E>, ms = 60_000) => define(test.concurrent, name, body, ms)

type Define = (name: string, body: () => Promise<void>, ms: number) => void

const define = <E>(test: Define, name: string, body: Body<E>, ms: number) =>
  test(
    name,
    () =>
      Effect.suspend(body).pipe(
        Effect.scoped,
        Effect.timeoutOrElse({
          duration: Duration.millis(ms),
          orElse: () => Effect.die(new Error(`not done within ${ms} ms`))
        }),
        Effect.asVoid,
        Effect.runPromise
      ),
    ms + farewell
  )

/** A test of an effect on the test clock: nothing waits unless the test moves the time. */
export const effect = <E>(name: string, body: Body<E>, ms?: number) =>
  live(name, () => Effect.provide(Effect.scoped(Effect.suspend(body)), TestClock.layer()), ms)
