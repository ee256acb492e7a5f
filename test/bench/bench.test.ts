import { expect, test } from "bun:test"
import { Effect } from "effect"
import { contestants } from "../../bench/bench/contestants.ts"
import { barsOf } from "../../bench/bench/plot.ts"
import { plotsOf, reportOf, targetsOf } from "../../bench/bench/report.ts"
import { bench, type Scale } from "../../bench/bench/run.ts"
import { live } from "../effect.ts"

test("a plot has a bar for each value, as long as the value is great", () => {
  const bars = [
    { name: "a & b", value: 100, ours: true },
    { name: "c", value: 50, least: 40, most: 60, ours: false }
  ]
  const widths = (svg: string) => Array.from(svg.matchAll(/<rect [^>]* width="(\d+)"/g), ([, width]) => Number(width))
  const [long = 0, short = 0] = widths(barsOf("title", bars))
  expect(short).toBe(Math.round(long / 2))
  expect(barsOf("title", bars)).toContain("a &amp; b")
  const [first = 0, second = 0, third = 0] = widths(
    barsOf(
      "title",
      [10, 100, 1_000].map((value) => ({ name: "", value, ours: true })),
      { log: true }
    )
  )
  expect(Math.abs(third - second - (second - first))).toBeLessThanOrEqual(1)
})

live(
  "two rows are measured and told",
  () =>
    Effect.gen(function* () {
      const scale: Scale = {
        rounds: 1,
        // CPU time is counted in hundredths of a second.
        messages: 2_000,
        warm: 100,
        singles: 20,
        seconds: 0.2,
        drain: 150,
        sample: 60,
        backlog: 200,
        starts: 1,
        outages: [0]
      }
      const said: Array<string> = []
      const found = yield* bench(
        contestants.filter(({ name }) => name === "plain-bun" || name === "packed"),
        scale,
        { drains: false, rest: false },
        (what, figures) => said.push(`${what}: ${JSON.stringify(figures)}`)
      )
      expect(said.filter((line) => line.includes("failed"))).toEqual([])
      for (const { throughputs, idle, loaded } of found.rows) {
        expect(throughputs[0]?.perSecond).toBeGreaterThan(10)
        // Counted in hundredths of a second: so few may take less than one.
        expect(throughputs[0]?.cpu).toBeGreaterThanOrEqual(0)
        expect(throughputs[0]?.peak).toBeGreaterThan(3e7)
        for (const { p50, p99 } of [...idle, ...loaded]) {
          expect(p50).toBeGreaterThan(0)
          expect(p99).toBeGreaterThanOrEqual(p50)
        }
      }
      const reached = targetsOf(found, scale).find(({ what }) => what.startsWith("packed: throughput to plain"))
      expect(reached?.met).toBeDefined()
      const setting = { command: "", machine: "", versions: "", commit: "", date: "", load: "", costs: "## Costs" }
      expect(reportOf(found, scale, setting)).toContain("| B24RMQ, packed |")
      expect(Object.keys(plotsOf(found))).toEqual(["throughput.svg", "cpu.svg"])
    }),
  60_000
)
