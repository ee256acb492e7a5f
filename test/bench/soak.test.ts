import { expect, test } from "bun:test"
import { Effect } from "effect"
import fc from "fast-check"
import { reportOf, verdictOf } from "../../bench/soak/report.ts"
import { soak } from "../../bench/soak/run.ts"
import { slopeOf, studentT95 } from "../../bench/soak/slope.ts"
import { live } from "../effect.ts"

test("95 % of Student's t are below the value of the tables", () => {
  for (const [freedom, value] of [
    [5, 2.015],
    [10, 1.812],
    [30, 1.697],
    [120, 1.658]
  ] as const) {
    expect(Math.abs(studentT95(freedom) - value)).toBeLessThan(0.002)
  }
})

test("the slope of a line is its slope, and noise only widens the bound", () => {
  fc.assert(
    fc.property(
      fc.double({ min: -50, max: 50, noNaN: true }),
      fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 4, maxLength: 50 }),
      (grows, noise) => {
        const exact = slopeOf(noise.map((_, index) => ({ hour: index / 60, value: 90 + (grows * index) / 60 })))
        expect(exact?.perHour).toBeCloseTo(grows, 6)
        expect(exact?.upper).toBeCloseTo(grows, 4)
        const noisy = slopeOf(noise.map((more, index) => ({ hour: index / 60, value: (grows * index) / 60 + more })))
        expect(noisy?.upper).toBeGreaterThanOrEqual(noisy?.perHour ?? Number.NaN)
      }
    )
  )
  expect(slopeOf([])).toBeUndefined()
})

live(
  "two bridges go through load and faults, and nothing is lost or doubled",
  () =>
    Effect.gen(function* () {
      const rounds: Array<string> = []
      const found = yield* soak({
        hours: 0.0001,
        seed: 3,
        pace: { faults: 1_500, calm: 400, idle: 100, rate: 40 },
        tell: ({ station }, samples) => {
          rounds.push(station)
          expect(samples.length).toBeGreaterThan(0)
        }
      })
      expect(rounds).toEqual(["steady", "restarted"])
      expect(found.rounds.map(({ attempted }) => attempted)).toEqual([76, 76])
      const { missed, requests } = verdictOf(found)
      expect(missed).toEqual([])
      expect(requests).toBe(152)
      expect(found.rounds[1]?.faults).toContain("restart")
      expect(found.rounds.every(({ rss, handles, p50 }) => rss > 1e7 && handles > 5 && p50 > 20)).toBe(true)
      const report = reportOf(found, { command: "soak", machine: "", versions: "", commit: "", date: "", seed: 3 })
      expect(report).toContain("| Lost (never answered) | 0 | 0 |")
    }),
  60_000
)
