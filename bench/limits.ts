/**
 * How fast the bridge is under a portal's limits: `bun bench/limits.ts [NAME...] [--scale X]`. Prints a line of JSON for
 * each run and a table at the end; ends with 1 where a target is missed. Needs a RabbitMQ that is installed, and starts
 * a node of its own. `--scale 0.1` asks a tenth as much.
 */
import { Effect } from "effect"
import type { RigFailed } from "../test/rig/until.ts"
import type { PortalFailed } from "../src/sandbox/portal/server.ts"
import { cpu } from "./limits/cpu.ts"
import { estimateRuns } from "./limits/estimate.ts"
import { fairness } from "./limits/fairness.ts"
import { idle } from "./limits/idle.ts"
import { latency } from "./limits/latency.ts"
import { operatingRuns, underOperating } from "./limits/operating.ts"
import { inOrder, orderRuns } from "./limits/order.ts"
import { rateRuns, underRate } from "./limits/rate.ts"
import { isMet, line, type Report, table } from "./limits/report.ts"
import { buildOnce } from "./machine.ts"

type Runs = ReadonlyArray<Effect.Effect<ReadonlyArray<Report>, RigFailed | PortalFailed>>

const one = <E>(run: Effect.Effect<Report, E>) => Effect.map(run, (report) => [report] as const)

const experiments: Readonly<Record<string, (scale: number) => Runs>> = {
  ...Object.fromEntries(
    ["cloud", "auto", "unpacked", "enterprise"].map((name) => [
      name,
      (scale: number) => rateRuns(name, scale).map((run) => one(underRate(run)))
    ])
  ),
  operating: (scale) => operatingRuns(scale).map((run) => one(underOperating(run))),
  latency: (scale) => [latency(scale)],
  // A machine that sleeps between two requests wakes up for each hop: the second pace shows how much of it that is.
  idle: (scale) => [50, 10].map((every) => idle(Math.max(20, Math.round(1_000 * scale)), every)),
  fairness: (scale) => [fairness(scale)],
  order: (scale) => orderRuns(scale).map((run) => one(inOrder(run))),
  estimate: (scale) => estimateRuns(scale).map((run) => one(run)),
  cpu: (scale) => [cpu(scale)]
}

const usage = (): never => {
  console.error(`usage: bun bench/limits.ts [${Object.keys(experiments).join("|")}]... [--scale X]`)
  process.exit(2)
}

const read = (args: ReadonlyArray<string>) => {
  const names: Array<string> = []
  let scale = 1
  for (let at = 0; at < args.length; at++) {
    const word = args[at] ?? ""
    if (word === "--scale") scale = Number(args[++at])
    else if (word in experiments) names.push(word)
    else return usage()
  }
  return scale > 0 ? { names: names.length > 0 ? names : Object.keys(experiments), scale } : usage()
}

const { names, scale } = read(process.argv.slice(2))
await buildOnce()
const reports: Array<Report> = []
const failures: Array<string> = []
for (const name of names) {
  for (const run of experiments[name]?.(scale) ?? []) {
    await Effect.runPromise(
      Effect.match(run, {
        onFailure: (error) => {
          failures.push(`${name}: ${error.message}`)
          console.error(failures.at(-1))
        },
        onSuccess: (found) => {
          reports.push(...found)
          for (const report of found) console.log(line(report))
        }
      })
    )
  }
}
console.log(`\n${table(reports)}`)
for (const failure of failures) console.log(`FAILED ${failure}`)
process.exit(failures.length === 0 && reports.every(({ targets }) => targets.every(isMet)) ? 0 : 1)
