/**
 * The bridge beside what one would write or pick instead: `bun run bench [ROW...] [--rounds N] [--messages N]
 * [--no-drains] [--no-rest]`. Prints a line of JSON for each run and the report at the end, which goes into
 * docs/benchmarks.md with its plots when all rows were measured. Needs a RabbitMQ that is installed, and starts nodes of
 * its own; `apt-get install amqp-tools curl python3-pika nodejs` brings the rivals. A row whose program is missing says so.
 */
import { join } from "node:path"
import { loadavg } from "node:os"
import { Effect } from "effect"
import { contestants } from "./bench/contestants.ts"
import { plotsOf, reportOf } from "./bench/report.ts"
import { bench, type Scale } from "./bench/run.ts"
import { buildOnce, commit, machine, says, versions } from "./machine.ts"

const usage = (): never => {
  const names = contestants.map(({ name }) => name).join("|")
  console.error(`usage: bun run bench [${names}]... [--rounds N] [--messages N] [--no-drains] [--no-rest]`)
  process.exit(2)
}

const read = (args: ReadonlyArray<string>) => {
  const names: Array<string> = []
  const numbers = { "--rounds": 5, "--messages": 40_000 }
  const parts = { drains: true, rest: true }
  for (let at = 0; at < args.length; at++) {
    const word = args[at] ?? ""
    if (word === "--rounds" || word === "--messages") numbers[word] = Number(args[++at])
    else if (word === "--no-drains") parts.drains = false
    else if (word === "--no-rest") parts.rest = false
    else if (contestants.some(({ name }) => name === word)) names.push(word)
    else return usage()
  }
  const { "--rounds": rounds, "--messages": messages } = numbers
  if (![rounds, messages].every((value) => Number.isInteger(value) && value > 0)) return usage()
  return {
    chosen: contestants.filter(({ name }) => names.length === 0 || names.includes(name)),
    parts,
    rounds,
    messages
  }
}

const args = process.argv.slice(2)
const { chosen, parts, rounds, messages } = read(args)
const scale: Scale = {
  rounds,
  messages,
  warm: 5_000,
  singles: 300,
  seconds: 3,
  drain: 10_000,
  sample: 110,
  backlog: 100_000,
  starts: 10,
  outages: [1, 2, 3, 5, 8, 13, 21, 34]
}
const node = says("node", "--version")
const pika = says("/usr/bin/python3", "-c", "import pika; print(pika.__version__)")
const setting = {
  command: ["bun run bench", ...args].join(" "),
  machine: machine(),
  versions: [
    versions(),
    ...(node === undefined ? [] : [`Node ${node}`]),
    ...(pika === undefined ? [] : [`pika ${pika}`])
  ].join(", "),
  commit: commit(),
  date: new Date().toISOString().slice(0, 10),
  load: loadavg()[0]?.toFixed(1) ?? "?",
  costs: await Bun.file(join(import.meta.dir, "bench", "costs.md")).text()
}
await buildOnce()
const found = await Effect.runPromise(
  bench(chosen, scale, parts, (what, figures) => console.log(JSON.stringify({ what, figures })))
)
const report = reportOf(found, scale, setting)
if (chosen.length === contestants.length) {
  const docs = join(import.meta.dir, "..", "docs")
  await Bun.write(join(docs, "benchmarks.md"), report)
  for (const [file, plot] of Object.entries(plotsOf(found))) await Bun.write(join(docs, "plots", file), plot)
}
console.log(`\n${report}`)
process.exit(0)
