import { test } from "bun:test"
import { Effect, type Scope } from "effect"
import { TestClock } from "effect/testing"

type Body<E> = () => Effect.Effect<unknown, E, Scope.Scope>

/** A test of an effect on the real clock: for the rig with a real broker or a real socket. `ms` is the time limit. */
export const live = <E>(name: string, body: Body<E>, ms?: number) =>
  test(name, () => Effect.runPromise(Effect.scoped(Effect.suspend(body))).then(() => undefined), ms)

/** A test of an effect on the test clock: nothing waits unless the test moves the time. */
export const effect = <E>(name: string, body: Body<E>, ms?: number) =>
  live(name, () => Effect.provide(Effect.suspend(body), TestClock.layer()), ms)
