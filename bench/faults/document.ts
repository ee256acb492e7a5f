import { readFileSync, writeFileSync } from "node:fs"
import { availableParallelism, loadavg } from "node:os"
import { fileURLToPath } from "node:url"
import { experiments } from "./experiments.ts"
import { cells, type Row } from "./report.ts"

/** What one command has found of one experiment. */
export interface Result {
  readonly experiment: string
  readonly bridge: string
  readonly command: string
  readonly versions: Readonly<Record<string, string>>
  readonly cores: number
  /** Of the last five minutes: what else the machine had to do shows in the times. */
  readonly load: number
  readonly rows: ReadonlyArray<Row>
}

const resultsFile = fileURLToPath(new URL("results.json", import.meta.url))
const documentFile = fileURLToPath(new URL("../../docs/faults.md", import.meta.url))

const head = `# Faults

What the bridge keeps of its promises while it, RabbitMQ, PostgreSQL and the portal are killed, frozen and cut off. Every figure here was measured, by the compiled program with a real RabbitMQ and a simulated portal, which counts what it executes. This page is written by the bench itself:

\`\`\`sh
npm run faults                                              # all, in short: five rounds each
npm run faults -- kill --rounds 100 --seed 1                # one in full; takes the place of its figures below
npm run faults -- kill cut --bridge "node their-bridge.js"  # another bridge
\`\`\`

It ends with 1 where a promise is broken. The seed decides what is sent and what is broken when; the machine decides the rest. Times are those of the machine and its load, and grow with it: where a load average far above the number of cores is named, others worked on it at the same time. Another bridge is any program that takes \`AMPQURL\`, \`B24REST\`, \`AMPQIN\` and \`AMPQOUT\` from its environment, and requests and answers in the form of [messages.md](messages.md).

Inside, \`B24RMQ_PORTAL_LIMIT\` is 2 s in place of 60: doubts are resolved that much sooner. \`single\` and \`packed\` are \`B24RMQ_PACK\` \`off\` and \`all\`; of another bridge they are two runs of the same.

## What is counted

| Column | Meaning | Has to be |
| --- | --- | --- |
| attempted | Requests that were published. | |
| acknowledged | Of these, how many the broker confirmed to their producer. | all |
| answered | Of these, how many have an answer. | all |
| lost | Those that have none. | 0 |
| doubled | Writes that were executed a second time, by a method that does not converge: two deals in place of one. | 0 |
| late | Writes that landed after a newer one of the same entity: the older value is final, or was for a while. | 0 |
| wrong | Answers that are not what the portal did, or two answers to one request that contradict each other. | 0 |
| unknown | Requests that were answered \`unknown\`. Only those are allowed of which nothing can tell: no handle, no key, not converging. | |
| had run | Of the unknown ones, how many had been executed. | |
| resolved | Requests that were in doubt, and answered with what was found out. | |
| repeats | Executions of a method that converges (\`update\`, \`delete\`) beyond the first. They change nothing. | |
| twice | Requests whose answer came more than once. Delivery is at least once. | |
| replayed | Requests that came again after the producer had their answer, and got the remembered one. | |
| packed | Requests that travelled in a \`batch\`. | |
| consumes ms | The longest time from the start of the bridge, or the broker's being back, until requests are taken. | |
| answers ms | The longest time from then until all requests of a round were answered. | |

"Doubled" in the sense of the promise is either of \`doubled\` and \`late\`.
`

const named = (versions: Readonly<Record<string, string>>) =>
  Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(", ")

const tableOf = (rows: ReadonlyArray<Row>) => {
  const [heads = [], ...lines] = cells(rows)
  return [heads, heads.map(() => "---"), ...lines].map((line) => `| ${line.join(" | ")} |`).join("\n")
}

const partOf = ({ bridge, command, versions, cores, load, rows }: Result) =>
  [`**${bridge}**, ${named(versions)}, ${cores} cores, load average ${load}: \`${command}\``, tableOf(rows)].join(
    "\n\n"
  )

export const readResults = (): ReadonlyArray<Result> => JSON.parse(readFileSync(resultsFile, "utf8"))

/** The document that shows these results, in the order of the experiments. */
export const documentOf = (results: ReadonlyArray<Result>): string =>
  [
    head,
    ...Object.entries(experiments).flatMap(([name, { about }]) => {
      const found = results.filter(({ experiment }) => experiment === name)
      return found.length === 0 ? [] : [[`## ${name}`, about, ...found.map(partOf)].join("\n\n") + "\n"]
    })
  ].join("\n")

export const readDocument = (): string => readFileSync(documentFile, "utf8")

/** Puts results in the place of those of the same experiment and bridge, and writes the document anew. */
export const write = (result: Omit<Result, "cores" | "load">) => {
  const isSame = (other: Result) => other.experiment === result.experiment && other.bridge === result.bridge
  const others = readResults().filter((other) => !isSame(other))
  const results = [...others, { ...result, cores: availableParallelism(), load: Math.round(loadavg()[1] ?? 0) }]
  writeFileSync(resultsFile, `${JSON.stringify(results, undefined, 2)}\n`)
  writeFileSync(documentFile, documentOf(results))
}
