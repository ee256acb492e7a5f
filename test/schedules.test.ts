import { describe, expect, test } from "bun:test"
import { Clock, Duration, Effect, Pull, Random, Schedule } from "effect"
import { TestClock } from "effect/testing"
import fc from "fast-check"
import * as schedules from "../src/schedules.ts"

const { fullJitter, openAgain, probe, publishAgain, readAgain, reconnect, standBy } = schedules

type AnySchedule = Schedule.Schedule<unknown>

const runs = { numRuns: 1_000 }

/** What one attempt took before the schedule was asked for the next wait, in milliseconds. */
const attempt = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 500 }) },
  fc.integer({ min: 0, max: 10_000 }),
  fc.constant(0)
)

const attempts = (maxLength: number) => fc.array(attempt, { minLength: 1, maxLength, size: "max" })

interface Wait {
  /** Milliseconds from the first attempt's end to the question. */
  readonly asked: number
  readonly wait: number
}

/** The next wait of a schedule in milliseconds, or undefined at its end. */
const stepper = (schedule: AnySchedule) =>
  Effect.map(
    Schedule.toStep(schedule),
    (step) => (now: number) =>
      step(now, undefined).pipe(
        Effect.map(([, wait]): number | undefined => Duration.toMillis(wait)),
        Pull.catchDone(() => Effect.succeed(undefined))
      )
  )

/**
 * Drives a schedule on the test clock: an attempt fails, the schedule says how long to wait, the next attempt takes its
 * time. Ends with the schedule.
 */
const drive = (schedule: AnySchedule, took: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const next = yield* stepper(schedule)
    const start = yield* Clock.currentTimeMillis
    const waits: Array<Wait> = []
    for (const ms of took) {
      const now = yield* Clock.currentTimeMillis
      const wait = yield* next(now)
      if (wait === undefined) break
      waits.push({ asked: now - start, wait })
      yield* TestClock.adjust(wait + ms)
    }
    return waits
  }).pipe(Effect.provide(TestClock.layer()))

/** Checks a property of the waits of a schedule, whatever the attempts between them take. */
const holds = (
  schedule: AnySchedule,
  maxLength: number,
  check: (waits: ReadonlyArray<Wait>, took: ReadonlyArray<number>) => void
) =>
  fc.assert(
    fc.asyncProperty(attempts(maxLength), async (took) => check(await Effect.runPromise(drive(schedule, took)), took)),
    runs
  )

const every = (waits: ReadonlyArray<Wait>, check: (wait: Wait, before: Wait | undefined, index: number) => boolean) => {
  const wrong = waits.findIndex((wait, index) => !check(wait, waits[index - 1], index))
  expect(wrong < 0 ? "all as they should be" : { index: wrong, wait: waits[wrong], before: waits[wrong - 1] }).toBe(
    "all as they should be"
  )
}

test("every schedule of the program is tested here", () => {
  const named = Object.entries(schedules).flatMap(([name, value]) => (Schedule.isSchedule(value) ? [name] : []))
  expect(named.toSorted()).toEqual(["openAgain", "probe", "publishAgain", "readAgain", "reconnect", "standBy"])
})

describe("reconnect", () => {
  test("starts at 100 ms and doubles up to a second, whatever the attempts take", () =>
    holds(reconnect, 12, (waits, took) => {
      expect(waits.length).toBe(took.length)
      every(waits, ({ asked, wait }, _, index) => asked > 60_000 || wait === Math.min(1_000, 100 * 2 ** index))
    }))

  test(
    "waits a second in the first minute, five in the next ten, then thirty, for ever",
    () =>
      // 250 attempts take 60 short waits, 120 middle ones and some of the long ones.
      holds(reconnect, 250, (waits, took) => {
        expect(waits.length).toBe(took.length)
        every(waits, ({ wait }, before) => wait > 0 && wait <= 30_000 && wait >= (before?.wait ?? 0))
        // A phase ends with the first question after its time; the next phase counts from there.
        const middle = waits.findIndex(({ wait }) => wait === 5_000)
        const long = waits.findIndex(({ wait }) => wait === 30_000)
        every(waits, ({ asked, wait }, _, index) => {
          if (asked <= 60_000) return wait <= 1_000
          const since = waits[middle]?.asked ?? Infinity
          if (index >= middle && asked - since <= 600_000) return wait === 5_000
          return long >= 0 && index >= long && wait === 30_000
        })
      }),
    60_000
  )

  test("the phases, exactly, when attempts take no time", async () => {
    const waits = await Effect.runPromise(drive(reconnect, Array(200).fill(0)))
    const count = (ms: number) => waits.filter(({ wait }) => wait === ms).length
    expect(waits.slice(0, 5).map(({ wait }) => wait)).toEqual([100, 200, 400, 800, 1_000])
    expect({ second: count(1_000), five: count(5_000) }).toEqual({ second: 59, five: 121 })
    expect(waits.find(({ wait }) => wait === 5_000)?.asked).toBeWithin(60_000, 62_000)
    expect(waits.find(({ wait }) => wait === 30_000)?.asked).toBeWithin(660_000, 672_000)
  })
})

const upTo = (name: string, schedule: AnySchedule, first: number, cap: number) =>
  describe(name, () => {
    test(`from ${first} ms, doubling up to ${cap} ms, for ever, whatever the attempts take`, () =>
      holds(schedule, 60, (waits, took) => {
        expect(waits.length).toBe(took.length)
        every(waits, ({ wait }, before, index) => {
          const doubled = wait === first * 2 ** index && (before === undefined || wait === 2 * before.wait)
          return wait === cap ? first * 2 ** index >= cap : doubled && wait < cap
        })
      }))
  })

upTo("probe", probe, 500, 15_000)
upTo("publishAgain", publishAgain, 200, 5_000)
upTo("openAgain", openAgain, 200, 5_000)

test("standBy looks twice a second, for ever", () =>
  holds(standBy, 50, (waits, took) => {
    expect(waits.map(({ wait }) => wait)).toEqual(took.map(() => 500))
  }))

describe("readAgain", () => {
  test("five waits of 1, 2, 4, 8 and 16 s, whatever the attempts take: six attempts over 31 s", () =>
    holds(readAgain, 12, (waits, took) => {
      const exact = [1_000, 2_000, 4_000, 8_000, 16_000]
      expect(waits.map(({ wait }) => wait)).toEqual(exact.slice(0, took.length))
      if (took.length > 5) expect(waits.reduce((sum, { wait }) => sum + wait, 0)).toBe(31_000)
    }))

  test("an attempt that counts double takes two of the five steps", () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }), async (timedOut) => {
        const waits = await Effect.runPromise(
          Effect.gen(function* () {
            const next = yield* stepper(readAgain)
            const taken: Array<number> = []
            for (const twice of timedOut) {
              if (twice) yield* next(0)
              const wait = yield* next(0)
              if (wait === undefined) break
              taken.push(wait)
            }
            return taken
          })
        )
        const steps = timedOut.map((twice) => (twice ? 2 : 1))
        const reached = steps.map((_, index) => steps.slice(0, index + 1).reduce((sum, step) => sum + step, 0))
        expect(waits).toEqual(reached.filter((step) => step <= 5).map((step) => 1_000 * 2 ** (step - 1)))
      }),
      runs
    ))

  test("as it is used, jittered: each wait within a fifth of its own", () =>
    fc.assert(
      fc.asyncProperty(fc.integer(), attempts(8), async (seed, took) => {
        const jittered = drive(Schedule.jittered(readAgain), took).pipe(Random.withSeed(seed))
        const waits = await Effect.runPromise(jittered)
        expect(waits.length).toBe(Math.min(5, took.length))
        every(waits, ({ wait }, _, index) => Math.abs(wait - 1_000 * 2 ** index) <= 200 * 2 ** index)
      }),
      runs
    ))
})

describe("fullJitter", () => {
  /** Asks a schedule and its jittered self at the same times. */
  const beside = (schedule: AnySchedule, took: ReadonlyArray<number>, seed: number) =>
    Effect.gen(function* () {
      const exact = yield* stepper(schedule)
      const jittered = yield* stepper(fullJitter(schedule))
      const pairs: Array<{ readonly full: number | undefined; readonly part: number | undefined }> = []
      let now = 0
      for (const ms of took) {
        const full = yield* exact(now)
        const part = yield* jittered(now)
        pairs.push({ full, part })
        if (part === undefined) break
        now += part + ms
      }
      return pairs
    }).pipe(Random.withSeed(seed), Effect.runPromise)

  for (const [name, schedule] of Object.entries({ probe, publishAgain, readAgain, reconnect })) {
    test(`makes of each wait of ${name} a part of it, from nothing to all, and ends with it`, async () => {
      const parts: Array<number> = []
      await fc.assert(
        fc.asyncProperty(attempts(30), fc.integer(), async (took, seed) => {
          for (const { full, part } of await beside(schedule, took, seed)) {
            if (full === undefined || part === undefined) {
              expect(part).toBe(full)
              continue
            }
            expect(part).toBeWithin(0, full + 1e-9)
            parts.push(part / full)
          }
        }),
        runs
      )
      expect(parts.length).toBeGreaterThan(1_000)
      const mean = parts.reduce((sum, part) => sum + part, 0) / parts.length
      expect(mean).toBeWithin(0.45, 0.55)
      for (const tenth of Array.from({ length: 10 }, (_, index) => index / 10)) {
        const share = parts.filter((part) => part >= tenth && part < tenth + 0.1).length / parts.length
        expect(share).toBeWithin(0.07, 0.13)
      }
    })
  }

  test("keeps the caps of reconnect: 1 s in the first minute, then 5 s, then 30 s", () =>
    fc.assert(
      fc.asyncProperty(attempts(200), fc.integer(), async (took, seed) => {
        const waits = await Effect.runPromise(drive(fullJitter(reconnect), took).pipe(Random.withSeed(seed)))
        expect(waits.length).toBe(took.length)
        // The middle phase ends ten minutes after the first question in it, which comes within one attempt and one wait.
        every(
          waits,
          ({ asked, wait }) => wait >= 0 && wait <= (asked <= 60_000 ? 1_000 : asked <= 660_000 ? 5_000 : 30_000)
        )
      }),
      runs
    ))
})
