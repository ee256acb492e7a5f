import { expect } from "bun:test"
import { Effect } from "effect"
import { oneQueue, twoQueues } from "../../bench/limits/fairness.ts"
import { live } from "../effect.ts"
import { expectMet, figure } from "./met.ts"

// Short forms of `bun bench/limits.ts fairness`. A call each tenth of a second: in their order, the few would wait for
// twelve seconds behind the crowd.

const run = { crowd: 7_000, burst: 20, fall: 10, command: 1, few: 10, within: 5_000 }

live("a few with the same webhook in a second queue do not wait for a crowd in the first", () =>
  Effect.gen(function* () {
    const report = yield* twoQueues({ ...run, few: 3 }, "1")
    expectMet(report)
    expect(figure(report, "of it answered")).toBeLessThan(run.crowd)
  })
)

live("a few with another webhook in the same queue do not wait for the crowd before them", () =>
  Effect.gen(function* () {
    const report = yield* oneQueue({ ...run, fall: 8 })
    expectMet(report)
    expect(figure(report, "of it still waiting when they were answered")).toBeGreaterThan(0)
  })
)
