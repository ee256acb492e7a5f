import { expect } from "bun:test"
import { Effect } from "effect"
import { inOrder, type OrderRun } from "../../bench/limits/order.ts"
import { live } from "../effect.ts"
import { expectMet, figure } from "./met.ts"

// Short forms of `bun bench/limits.ts order`.

const order = (run: OrderRun) =>
  live(
    `updates of one entity keep their order: ${run.run}`,
    () =>
      Effect.gen(function* () {
        const report = yield* inOrder(run)
        expectMet(report)
        // Entities do not wait for each other.
        expect(figure(report, "in flight")).toBeGreaterThan(1)
      }),
    120_000
  )

const common = { entities: 24, updates: 15, command: 10, seed: 7 }

order({ ...common, run: "502s, resets and closed connections", pack: "reads", probability: 0.005, closings: 1 })
order({ ...common, run: "the same, packed", pack: "all", probability: 0.01, closings: 1 })
order({ ...common, updates: 8, run: "refused for the rate", pack: "reads", probability: 0, closings: 0, rate: 100 })
