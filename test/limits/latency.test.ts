import { expect } from "bun:test"
import { Effect } from "effect"
import { idle } from "../../bench/limits/idle.ts"
import { atLatency } from "../../bench/limits/latency.ts"
import { live } from "../effect.ts"
import { expectMet, figure } from "./met.ts"

for (const concurrency of [3, 16]) {
  live(`a slow portal has ${concurrency} calls at once, never one more, and all the time`, () =>
    Effect.gen(function* () {
      const run = `${concurrency} at once`
      const { report, took, least } = yield* atLatency({ run, count: 60 * concurrency, command: 20, concurrency })
      expectMet(report)
      expect(figure(report, "in flight")).toBe(concurrency)
      expect(took).toBeLessThan(4 * least + 2_000)
    })
  )
}

live("an idle bridge answers within milliseconds", () =>
  Effect.gen(function* () {
    // On two busy cores a few milliseconds become many; `bun bench/limits.ts idle` measures them.
    for (const report of yield* idle(100, 10, 50)) expectMet(report)
  })
)
