/**
 * What the bridge promises, while it, its broker and the portal are killed and cut: `bun bench/faults.ts [NAME...]
 * [--rounds N] [--seed S] [--bridge "COMMAND"]`. Prints a line of JSON for each run and a table at the end, and writes
 * docs/faults.md: what was found takes the place of the same experiment's earlier figures. Ends with 1 where a promise is
 * broken. Needs a RabbitMQ that is installed, and starts nodes of its own; some experiments need PostgreSQL as well.
 * 100 rounds give the full figures. COMMAND is the command line of another bridge, run in this folder.
 */
import { Effect } from "effect"
import packaged from "../package.json" with { type: "json" }
import { postgresVersion } from "../test/rig/postgres.ts"
import { sharedNode } from "../test/rig/rabbit.ts"
import { write } from "./faults/document.ts"
import { type Experiment, experiments } from "./faults/experiments.ts"
import { line, type Row, table } from "./faults/report.ts"
import { OtherBridge } from "./faults/stage.ts"
import { buildOnce } from "./machine.ts"

const usage = (): never => {
  console.error(
    `usage: npm run faults -- [${Object.keys(experiments).join("|")}]... [--rounds N] [--seed S] [--bridge "COMMAND"]`
  )
  process.exit(2)
}

const read = (args: ReadonlyArray<string>) => {
  const names: Array<string> = []
  const numbers = { "--rounds": 5, "--seed": 1 }
  let bridge = ""
  for (let at = 0; at < args.length; at++) {
    const word = args[at] ?? ""
    if (word === "--rounds" || word === "--seed") numbers[word] = Number(args[++at])
    else if (word === "--bridge") bridge = args[++at] ?? ""
    else if (word in experiments) names.push(word)
    else return usage()
  }
  const { "--rounds": rounds, "--seed": seed } = numbers
  if (!(Number.isInteger(rounds) && rounds > 0 && Number.isInteger(seed))) return usage()
  const suitable = Object.keys(experiments).filter((name) => bridge === "" || experiments[name]?.ours !== true)
  if (names.some((name) => !suitable.includes(name))) {
    console.error(`for another bridge there are: ${suitable.join(", ")}`)
    process.exit(2)
  }
  return { names: names.length > 0 ? names : suitable, rounds, seed, bridge }
}

const { names, rounds, seed, bridge } = read(process.argv.slice(2))
const [command, ...words] = bridge.split(/\s+/).filter((word) => word !== "")
const other = command === undefined ? undefined : ([command, ...words] as const)
if (other === undefined) await buildOnce()

const rabbitVersion = Effect.flatMap(sharedNode, (node) =>
  Effect.map(node.evaluate("rabbit_misc:version()"), (term) => term.replaceAll('"', ""))
)

const conduct = Effect.fnUntraced(function* (name: string, { runs, atOnce = 1, withPostgres }: Experiment) {
  const found = yield* Effect.forEach(
    runs(rounds, seed),
    Effect.tap((rows) => Effect.sync(() => rows.forEach((row) => console.log(line(row))))),
    { concurrency: atOnce }
  )
  const rows = found.flat()
  const options = [`--rounds ${rounds}`, `--seed ${seed}`, ...(other === undefined ? [] : [`--bridge "${bridge}"`])]
  write({
    experiment: name,
    bridge: other === undefined ? `B24RMQ ${packaged.version}` : other.join(" "),
    command: `npm run faults -- ${name} ${options.join(" ")}`,
    versions: {
      RabbitMQ: yield* rabbitVersion,
      ...(withPostgres ? { PostgreSQL: yield* postgresVersion } : {}),
      Bun: Bun.version
    },
    rows
  })
  return rows
})

const tables: Array<string> = []
const failures: Array<string> = []
const all: Array<Row> = []
for (const name of names) {
  const experiment = experiments[name]
  if (experiment === undefined) continue
  await Effect.runPromise(
    conduct(name, experiment).pipe(
      Effect.provideService(OtherBridge, other),
      Effect.match({
        onFailure: (error) => {
          failures.push(`${name}: ${error.message}`)
          console.error(failures.at(-1))
        },
        onSuccess: (rows) => {
          all.push(...rows)
          tables.push(`${name}\n${table(rows)}`)
        }
      })
    )
  )
}
console.log(`\n${tables.join("\n\n")}`)
for (const { experiment, run, broken } of all)
  for (const one of broken) console.log(`BROKEN ${experiment}: ${run}: ${one}`)
for (const failure of failures) console.log(`FAILED ${failure}`)
process.exit(failures.length === 0 && all.every(({ broken }) => broken.length === 0) ? 0 : 1)
