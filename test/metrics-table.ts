import { Effect } from "effect"
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { idle, samplesOf } from "./watch/exposition.ts"

/** The document that prints the table of metrics. */
export const document = "docs/metrics.md"

/** Labels whose values are the operator's, or ours and plain; of all others the table names the values. */
const open = new Set(["queue", "version", "bun", "le"])

const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
const code = (text: string) => `\`${text}\``

/** What a bridge with nothing to do tells of its metrics, as a Markdown table. */
export const metricsTable = Effect.map(idle, (text) => {
  const samples = samplesOf(text)
  const families = [...text.matchAll(/^# HELP (\w+) (.*)\n# TYPE \1 (\w+)$/gm)]
  const rows = families.map(([, name = "", meaning = "", type = ""]) => {
    const values = new Map<string, Set<string>>()
    for (const { labels, name: sample } of samples) {
      if (sample !== name && sample !== `${name}_count`) continue
      for (const [label, value] of Object.entries(labels))
        values.set(label, (values.get(label) ?? new Set()).add(value))
    }
    const labels = Array.from(values, ([label, words]) =>
      open.has(label) ? code(label) : `${code(label)}: ${[...words].map(code).join(", ")}`
    )
    return line([code(name), type, labels.join("<br>"), meaning])
  })
  return [line(["Metric", "Type", "Labels", "Meaning"]), line(["---", "---", "---", "---"]), ...rows.toSorted()].join(
    "\n"
  )
})

const marks = /(?<=<!-- metrics -->\n)[^]*?(?=\n<!-- \/metrics -->)/
const path = fileURLToPath(new URL(`../${document}`, import.meta.url))

/** What stands between the marks `<!-- metrics -->` and `<!-- /metrics -->`; undefined without them. */
export const tableIn = () => marks.exec(readFileSync(path, "utf8"))?.[0]

if (import.meta.main) {
  if (process.argv[2] !== "--write") {
    console.error("usage: bun test/metrics-table.ts --write")
    process.exit(2)
  }
  const text = readFileSync(path, "utf8")
  if (!marks.test(text)) {
    console.error(`${document} has no <!-- metrics --> and <!-- /metrics --> on lines of their own`)
    process.exit(1)
  }
  const table = await Effect.runPromise(metricsTable)
  writeFileSync(
    path,
    text.replace(marks, () => table)
  )
}
