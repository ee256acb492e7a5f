import { expect, test } from "bun:test"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { live } from "../effect.ts"
import { metricsTable, tableIn } from "../metrics-table.ts"
import { run, temporaryFolder } from "../rig/child.ts"
import { idle, samplesOf } from "./exposition.ts"

const pathOf = (file: string) => fileURLToPath(new URL(`../../${file}`, import.meta.url))
const textOf = (file: string) => readFileSync(pathOf(file), "utf8")

const rulesFile = "packaging/prometheus/b24rmq.rules.yml"

interface Alert {
  readonly alert: string
  readonly expr: string
  readonly annotations?: { readonly summary?: string; readonly description?: string }
}

const alerts: ReadonlyArray<Alert> = (
  Bun.YAML.parse(textOf(rulesFile)) as { readonly groups: ReadonlyArray<{ readonly rules: ReadonlyArray<Alert> }> }
).groups.flatMap(({ rules }) => rules)

/** Every expression of the dashboard, those of its variables too, with something in the place of Grafana's own words. */
const dashboard: ReadonlyArray<string> = [
  ...textOf("packaging/grafana/b24rmq.json").matchAll(/"(?:expr|definition)": ("(?:[^"\\]|\\.)*")/g)
].map(([, text = ""]) =>
  String(JSON.parse(text))
    .replaceAll("$__rate_interval", "5m")
    .replaceAll(/^label_values\((.*), \w+\)$/g, "$1")
)

const documented = [...textOf("docs/metrics.md").matchAll(/```promql\n([^]*?)```/g)]
  .flatMap(([, block = ""]) => block.split("\n"))
  .filter((row) => row !== "" && !row.startsWith("#"))

const promtool = (...args: ReadonlyArray<string>) =>
  Effect.map(run({ command: "promtool", args, env: {}, cwd: "/", within: "20 seconds" }), ({ code, out, err }) => ({
    code,
    said: out + err
  }))

live("promtool takes the rules, and they fire when they should and not when they should not", () =>
  Effect.gen(function* () {
    const checked = yield* promtool("check", "rules", pathOf(rulesFile))
    expect(checked).toMatchObject({ code: 0, said: expect.stringContaining(`SUCCESS: ${alerts.length} rules found`) })
    const played = yield* promtool("test", "rules", pathOf("test/watch/alerts.yml"))
    expect(played).toMatchObject({ code: 0, said: expect.stringContaining("SUCCESS") })
  })
)

live("promtool reads every expression of the dashboard and of the document", () =>
  Effect.gen(function* () {
    const file = `${yield* temporaryFolder("rules")}/rules.json`
    const rules = [...dashboard, ...documented].map((expr, at) => ({ record: `expression_${at}`, expr }))
    yield* Effect.promise(() => Bun.write(file, JSON.stringify({ groups: [{ name: "all", rules }] })))
    expect(rules.length).toBeGreaterThan(30)
    expect(yield* promtool("check", "rules", file)).toMatchObject({ code: 0 })
  })
)

test("each alert says what is wrong and what to do, and is played", () => {
  const played = textOf("test/watch/alerts.yml")
  for (const { alert, annotations: { summary = "", description = "" } = {} } of alerts) {
    expect([alert, summary.includes("$labels")]).toEqual([alert, true])
    expect([alert, description.length > 100]).toEqual([alert, true])
    expect([alert, played.includes(alert)]).toEqual([alert, true])
  }
})

// What Prometheus itself adds to each scrape, and to the alerts.
const ofPrometheus = new Set(["up", "ALERTS"])
const labelsOfScrape = new Set(["job", "instance"])

/** Metrics and labels that an expression asks for and a bridge does not have. */
const unknownIn = (expression: string, text: string) => {
  const samples = samplesOf(text)
  const names = new Set(samples.map(({ name }) => name))
  const selectors = [...expression.matchAll(/\b(up|ALERTS|b24rmq_\w+|process_\w+)\b(?:\{([^}]*)\})?/g)]
  return selectors.flatMap(([selector, name = "", matchers = ""]) => {
    if (ofPrometheus.has(name)) return []
    if (!names.has(name)) return [selector]
    const asked = [...matchers.matchAll(/(\w+)(=~|!=|!~|=)"([^"]*)"/g)].filter(
      ([, label = ""]) => !labelsOfScrape.has(label)
    )
    return asked.some(
      ([, label = "", , value = ""]) => !samples.some((one) => one.name === name && one.labels[label] === value)
    )
      ? [selector]
      : []
  })
}

live("rules, dashboard and document ask for metrics and labels that there are", () =>
  Effect.gen(function* () {
    const text = yield* idle
    const expressions = [...alerts.map(({ expr }) => expr), ...dashboard, ...documented]
    expect(expressions.flatMap((expression) => unknownIn(expression, text))).toEqual([])
    // It would see one that there is not.
    const wrong =
      'b24rmq_link_up == 0 and b24rmq_gone_total{job="a"} and b24rmq_answers_total{outcome="gone", job=~"$job"}'
    expect(unknownIn(wrong, text)).toHaveLength(2)
  })
)

live("the table of metrics is the code's (bun test/metrics-table.ts --write)", () =>
  Effect.map(metricsTable, (table) => expect(tableIn()).toBe(table))
)
