import { expect } from "bun:test"
import { Cause, Clock, Deferred, Effect, Exit, Fiber, Random, Ref, type Scope, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import fc from "fast-check"
import { kept, until } from "../../src/queue/kept.ts"
import { effect } from "../effect.ts"

/** One session: how long it takes to be well, if it ever is, and how long it lasts after that. Milliseconds. */
interface Life {
  readonly opening: number
  readonly health: number | undefined
}

const life: fc.Arbitrary<Life> = fc.record({
  opening: fc.oneof(fc.integer({ min: 0, max: 5_000 }), fc.integer({ min: 30_000, max: 90_000 })),
  health: fc.option(
    fc.oneof(
      fc.integer({ min: 0, max: 5_000 }),
      fc.integer({ min: 59_990, max: 60_010 }),
      fc.constant(60_000),
      fc.integer({ min: 60_000, max: 300_000 })
    ),
    { nil: undefined, freq: 2 }
  )
})

/** Full jitter at its upper end: the waits are the exact ones of the schedule. */
const longest = Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 1, nextIntUnsafe: () => 0 })

/** Lets `kept` live these lives on the test clock, and tells the waits between them. */
const waitsBetween = (lives: ReadonlyArray<Life>) =>
  Effect.gen(function* () {
    const waits: Array<number> = []
    const done = yield* Deferred.make<void>()
    let index = 0
    let endedAt: number | undefined
    const fiber = yield* kept(
      (well) =>
        Effect.gen(function* () {
          if (endedAt !== undefined) waits.push((yield* Clock.currentTimeMillis) - endedAt)
          const one = lives[index++]
          if (one === undefined) {
            yield* Deferred.succeed(done, undefined)
            return yield* Effect.never
          }
          yield* Effect.sleep(one.opening)
          if (one.health === undefined) return yield* Effect.fail("never well")
          yield* well
          yield* Effect.sleep(one.health)
          return yield* Effect.fail("lost")
        }),
      () =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          endedAt = now
          return "wait"
        })
    ).pipe(Effect.forkChild)
    const moving = yield* Effect.forkChild(Effect.forever(TestClock.adjust("1 minute")))
    yield* Deferred.await(done)
    yield* Fiber.interrupt(moving)
    yield* Fiber.interrupt(fiber)
    return waits
  }).pipe(longest, Effect.provide(TestClock.layer()))

/**
 * What the waits should be: the phases are those of one outage, which lasts as long as attempts fail and are waited for,
 * and ends with a minute of health.
 */
const expectedWaits = (lives: ReadonlyArray<Life>) => {
  let failures = 0
  let outage = 0
  let first: number | undefined
  let middle: number | undefined
  return lives.map(({ opening, health }) => {
    if (health === undefined) outage += opening
    if (health !== undefined && health >= 60_000) {
      failures = 0
      outage = 0
      first = middle = undefined
    }
    first ??= outage
    const early = outage - first <= 60_000
    if (!early) middle ??= outage
    const cap = early ? 1_000 : outage - (middle ?? outage) <= 600_000 ? 5_000 : 30_000
    const wait = Math.min(100 * 2 ** failures++, cap)
    outage += wait
    return wait
  })
}

effect("the waits are those of the reconnect schedule, anew after 60 s of health", () =>
  Effect.promise(() =>
    fc.assert(
      fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 40, size: "max" }), async (lives) => {
        expect(await Effect.runPromise(waitsBetween(lives))).toEqual(expectedWaits(lives))
      }),
      { numRuns: 1_000 }
    )
  )
)

effect("an hour of refusals goes through all three phases", () =>
  Effect.gen(function* () {
    const waits = yield* waitsBetween(Array.from({ length: 300 }, () => ({ opening: 10, health: undefined })))
    expect(waits.slice(0, 6)).toEqual([100, 200, 400, 800, 1_000, 1_000])
    expect([...new Set(waits)]).toEqual([100, 200, 400, 800, 1_000, 5_000, 30_000])
  })
)

effect("lasting for a minute without being well is no health", () =>
  Effect.gen(function* () {
    const waits = yield* waitsBetween(Array.from({ length: 4 }, () => ({ opening: 70_000, health: undefined })))
    expect(waits).toEqual([100, 200, 400, 800])
  })
)

/** A session that ends as told. */
const ending = (exits: ReadonlyArray<Exit.Exit<void, string>>, answer: "wait" | "at once") =>
  Effect.gen(function* () {
    const log = yield* Ref.make<ReadonlyArray<string>>([])
    const note = (what: string) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => Ref.update(log, (lines) => [...lines, `${now} ${what}`]))
    const done = yield* Deferred.make<void>()
    let index = 0
    const session = (): Effect.Effect<void, string, Scope.Scope> =>
      Effect.gen(function* () {
        const exit = exits[index++]
        yield* Effect.acquireRelease(note("open"), () => note("close"))
        if (exit !== undefined) return yield* exit
        yield* Deferred.succeed(done, undefined)
        return yield* Effect.never
      })
    const fiber = yield* Effect.forkChild(
      kept(session, (cause) =>
        Effect.as(note(cause.reasons.length === 0 ? "ended well" : (Cause.squash(cause) as string)), answer)
      )
    )
    const moving = yield* Effect.forkChild(Effect.forever(TestClock.adjust("50 millis")))
    yield* Deferred.await(done)
    yield* Fiber.interrupt(moving)
    yield* Fiber.interrupt(fiber)
    return yield* Ref.get(log)
  }).pipe(longest)

effect("it is closed before anybody is told why, and opened again however it ended", () =>
  Effect.gen(function* () {
    const exits = [Exit.fail("failed"), Exit.die("a defect"), Exit.void]
    expect(yield* ending(exits, "wait")).toEqual([
      "0 open",
      "0 close",
      "0 failed",
      "100 open",
      "100 close",
      "100 a defect",
      "300 open",
      "300 close",
      "300 ended well",
      "700 open",
      "700 close"
    ])
  })
)

effect("at once means without a wait", () =>
  Effect.gen(function* () {
    const lines = yield* ending([Exit.fail("a"), Exit.fail("b"), Exit.void], "at once")
    expect(lines.filter((line) => line.endsWith(" open"))).toEqual(Array(4).fill("0 open"))
  })
)

effect("until waits for a value that is wanted, and gives the one that is", () =>
  Effect.gen(function* () {
    const ref = yield* SubscriptionRef.make(1)
    expect(yield* until(ref, (value) => value === 1)).toBe(1)
    const waiting = yield* Effect.forkChild(until(ref, (value) => value > 2))
    yield* SubscriptionRef.set(ref, 2)
    yield* Effect.yieldNow
    expect(waiting.pollUnsafe()).toBeUndefined()
    yield* SubscriptionRef.set(ref, 3)
    expect(yield* Fiber.join(waiting)).toBe(3)
  })
)
