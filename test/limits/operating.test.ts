import { expect } from "bun:test"
import { Effect } from "effect"
import { type OperatingRun, underOperating } from "../../bench/limits/operating.ts"
import { live } from "../effect.ts"
import { expectMet, figure } from "./met.ts"

// Short forms of `bun bench/limits.ts operating`, with ten buckets of 0.3 s. The portal tells what a batch took when
// it ends, after some seconds here: for a method to be closed there has to be more than may leave in the meantime.

const common = { heavy: 60, light: 2, bucket: 300, within: { light: Infinity, heavy: 4 } }

const operating = (name: string, run: OperatingRun) =>
  live(
    name,
    () =>
      Effect.gen(function* () {
        const report = yield* underOperating(run)
        // A hundredth of some hundred requests is less than one call that comes too early.
        expectMet({ ...report, targets: report.targets.filter(({ what }) => !what.startsWith("429s")) })
        // What is planned well is never refused; that the heavy ones had to wait for their time shows that the limit bites.
        expect(figure(report, "heavy s")).toBeGreaterThan(figure(report, "window s"))
        expect(figure(report, "429")).toBeLessThan(figure(report, "requests") / 2)
        if (run.payer === "methods") expect(figure(report, "light s")).toBeLessThan(figure(report, "heavy s"))
      }),
    120_000
  )

operating("a method that is closed for its run time lets the others pass, and no producer hears of it", {
  ...common,
  count: 200,
  payer: "methods",
  limit: 5,
  burst: 3,
  fall: 3
})

operating("where batch pays and is closed, no producer hears of it either", {
  ...common,
  count: 160,
  payer: "batch",
  limit: 3,
  burst: 2,
  fall: 2
})
