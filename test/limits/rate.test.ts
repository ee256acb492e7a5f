import { expect } from "bun:test"
import { Effect } from "effect"
import { type RateRun, underRate } from "../../bench/limits/rate.ts"
import { live } from "../effect.ts"
import { expectMet, figure } from "./met.ts"

// Short forms of `bun bench/limits.ts cloud auto unpacked`: the counts are exact, the times generous.

/** Twenty calls a second after fifty. */
const quick = { experiment: "rate", burst: 50, fall: 20, command: 1, told: "rate", pack: "reads", within: 4 } as const

const rate = (name: string, run: Omit<RateRun, "run">, calls: { readonly least: number; readonly most: number }) =>
  live(name, () =>
    Effect.gen(function* () {
      const report = yield* underRate({ ...run, run: name })
      expectMet(report)
      const requests = figure(report, "HTTP requests") - figure(report, "refusals")
      expect(requests).toBeGreaterThanOrEqual(calls.least)
      expect(requests).toBeLessThanOrEqual(calls.most)
    })
  )

rate(
  "five thousand requests leave in a hundred calls, as fast as the portal allows",
  { ...quick, count: 5_000 },
  { least: 100, most: 110 }
)

rate(
  "requests that come one after the other are packed, too, once they have to wait",
  { ...quick, count: 3_000, burst: 40, over: 2, within: 8 },
  { least: 60, most: 150 }
)

rate(
  "without packing each request is a call, and none is refused",
  { ...quick, count: 90, pack: "off" },
  { least: 90, most: 90 }
)

// How full the first calls are depends on how fast requests arrive, and each that is not costs half a second here.
rate(
  "a rate that nobody told is learned from one refusal of those in flight",
  { ...quick, count: 600, burst: 10, fall: 2, told: "auto", within: 20 },
  { least: 12, most: 50 }
)
