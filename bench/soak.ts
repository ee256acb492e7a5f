/**
 * How the bridge lives on: `bun run soak [HOURS] [--seed S]`, two hours unless told otherwise; 0.17 is the ten-minute
 * form. Prints a line of JSON for each sample and each round, then a report, which goes into docs/soak.md, too. Ends with
 * 1 where something was lost, doubled, or grows. Needs a RabbitMQ that is installed, and starts a node of its own.
 */
import { join } from "node:path"
import { Effect } from "effect"
import { buildOnce, commit, machine, versions } from "./machine.ts"
import { reportOf, verdictOf } from "./soak/report.ts"
import { minute, soak } from "./soak/run.ts"

const usage = (): never => {
  console.error("usage: bun run soak [HOURS] [--seed S]")
  process.exit(2)
}

const args = process.argv.slice(2)
let hours = 2
let seed = 1
for (let at = 0; at < args.length; at++) {
  if (args[at] === "--seed") seed = Number(args[++at])
  else hours = Number(args[at])
}
if (!(hours > 0 && Number.isInteger(seed))) usage()

// Of this moment: the sources may change while it runs.
const setting = {
  command: ["bun run soak", ...args].join(" "),
  machine: machine(),
  versions: versions(),
  commit: commit(),
  date: new Date().toISOString().slice(0, 10),
  seed
}
await buildOnce()
const found = await Effect.runPromise(
  soak({
    hours,
    seed,
    pace: minute,
    tell: (round, samples) => {
      for (const sample of samples) console.log(JSON.stringify({ station: round.station, ...sample }))
      console.log(JSON.stringify(round))
    }
  })
)
const report = reportOf(found, setting)
await Bun.write(join(import.meta.dir, "..", "docs", "soak.md"), report)
console.log(`\n${report}`)
process.exit(verdictOf(found).missed.length === 0 ? 0 : 1)
