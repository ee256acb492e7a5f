import { Effect, Metric } from "effect"
import { Overview } from "../../src/watch/overview.ts"
import { prometheus } from "../../src/watch/metrics.ts"
import { idle } from "./sample.ts"

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const line = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/

/** What an exposition in Prometheus' text format says; throws where a line is none. */
export const samplesOf = (text: string): ReadonlyArray<Sample> =>
  text
    .split("\n")
    .filter((row) => row !== "" && !row.startsWith("#"))
    .map((row) => {
      const [, name, labels = "", value = ""] = line.exec(row) ?? []
      if (name === undefined) throw new Error(`not a sample: ${row}`)
      return {
        name,
        labels: Object.fromEntries(
          [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = "", word = ""]) => [key, word])
        ),
        value: Number(value.replace("Inf", "Infinity"))
      }
    })

/** What tells a series from all others. */
export const seriesOf = (samples: ReadonlyArray<Sample>) =>
  samples.map(({ name, labels }) => `${name} ${JSON.stringify(labels)}`).toSorted()

/** The sum over the series of a name that have these labels. */
export const sumOf = (samples: ReadonlyArray<Sample>, name: string, labels: Sample["labels"] = {}) =>
  samples
    .filter((one) => one.name === name && Object.entries(labels).every(([key, word]) => one.labels[key] === word))
    .reduce((sum, { value }) => sum + value, 0)

/** What is told of a bridge that is well, has something to do and has not begun: every series that there is. */
export const exposition: Effect.Effect<string> = prometheus.pipe(
  Effect.provideService(Overview, {
    status: Effect.succeed({ ...idle, backlog: { left: 1, known: true, seconds: 1 } }),
    history: Effect.succeed([]),
    attend: Effect.void
  }),
  Effect.provideService(Metric.MetricRegistry, new Map())
)
