/**
 * What the bridge promises, while it, its broker and the portal are killed and cut: `bun bench/faults.ts [NAME...]
 * [--rounds N] [--seed S]`. Prints a line of JSON for each run and a table at the end; ends with 1 where a promise is
 * broken. Needs a RabbitMQ that is installed, and starts nodes of its own. 100 rounds give the full figures.
 */
import { join } from "node:path"
import { Effect } from "effect"
import { build } from "../build.ts"
import type { PortalFailed } from "../src/sandbox/portal/server.ts"
import { binaryVariable } from "../test/rig/bridge.ts"
import { folderOfProcess } from "../test/rig/child.ts"
import type { RigFailed } from "../test/rig/until.ts"
import { type Broken, brokenBroker } from "./faults/brokers.ts"
import { type BorderName, borders, killed, type Pack } from "./faults/kills.ts"
import { landedLate, type LateRun } from "./faults/late.ts"
import { cut, thrice } from "./faults/portals.ts"
import { broken, line, type Report, table } from "./faults/report.ts"

type Runs = ReadonlyArray<Effect.Effect<Report, RigFailed | PortalFailed>>

const packs: ReadonlyArray<Pack> = ["off", "all"]
const broke: ReadonlyArray<Broken> = ["broker", "link", "both", "all three"]
const late: ReadonlyArray<LateRun> = ["doubt", "doubt, own", "killed", "killed, own", "killed once answered, own"]

const experiments: Readonly<Record<string, (rounds: number, seed: number) => Runs>> = {
  kill: (rounds, seed) =>
    (Object.keys(borders) as ReadonlyArray<BorderName>).flatMap((border) =>
      packs.map((pack) => killed(border, pack, rounds, seed))
    ),
  broker: (rounds, seed) =>
    broke.flatMap((what) => packs.map((pack) => brokenBroker(what, pack, Math.ceil(rounds / 2), seed))),
  cut: (rounds, seed) =>
    [false, true].flatMap((stamp) => packs.map((pack) => cut(Math.min(2_000, 100 * rounds), stamp, pack, seed))),
  thrice: (rounds, seed) => packs.map((pack) => thrice(Math.min(2_000, 40 * rounds), pack, seed)),
  late: (rounds, seed) => late.map((run) => landedLate(run, rounds, seed))
}

const usage = (): never => {
  console.error(`usage: bun run faults [${Object.keys(experiments).join("|")}]... [--rounds N] [--seed S]`)
  process.exit(2)
}

const read = (args: ReadonlyArray<string>) => {
  const names: Array<string> = []
  const numbers = { "--rounds": 5, "--seed": 1 }
  for (let at = 0; at < args.length; at++) {
    const word = args[at] ?? ""
    if (word === "--rounds" || word === "--seed") numbers[word] = Number(args[++at])
    else if (word in experiments) names.push(word)
    else return usage()
  }
  const { "--rounds": rounds, "--seed": seed } = numbers
  if (!(Number.isInteger(rounds) && rounds > 0 && Number.isInteger(seed))) return usage()
  return { names: names.length > 0 ? names : Object.keys(experiments), rounds, seed }
}

const { names, rounds, seed } = read(process.argv.slice(2))
if (process.env[binaryVariable] === undefined) {
  const dist = join(folderOfProcess("build"), "dist")
  await build({ all: false, dist })
  process.env[binaryVariable] = join(dist, "B24RMQ")
}
const reports: Array<Report> = []
const failures: Array<string> = []
for (const name of names) {
  for (const run of experiments[name]?.(rounds, seed) ?? []) {
    await Effect.runPromise(
      Effect.match(run, {
        onFailure: (error) => {
          failures.push(`${name}: ${error.message}`)
          console.error(failures.at(-1))
        },
        onSuccess: (report) => {
          reports.push(report)
          console.log(line(report))
        }
      })
    )
  }
}
console.log(`\n${table(reports)}`)
for (const failure of failures) console.log(`FAILED ${failure}`)
process.exit(failures.length === 0 && reports.every((report) => broken(report).length === 0) ? 0 : 1)
