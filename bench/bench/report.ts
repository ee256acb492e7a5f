import type { Setting } from "../machine.ts"
import type { Drain } from "./drain.ts"
import type { Latency } from "./latency.ts"
import { type Bar, barsOf } from "./plot.ts"
import type { Bench, Row, Scale } from "./run.ts"

interface BenchSetting extends Setting {
  /** The load of the machine when it began; below one where nothing else ran. */
  readonly load: string
  /** What costs and why it stays, as Markdown. */
  readonly costs: string
}

/** Of an even number the mean of the two in the middle. */
const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (index: number) => sorted[index] ?? Number.NaN
  return (at(Math.floor((sorted.length - 1) / 2)) + at(Math.ceil((sorted.length - 1) / 2))) / 2
}

const spread = (values: ReadonlyArray<number>, digits: number) =>
  values.length === 0
    ? "–"
    : `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`

const of = ({ rows }: Bench, name: string): Row | undefined => rows.find(({ contestant }) => contestant.name === name)

/** Ratios of the same round, one for each. */
const pairs = (bench: Bench, one: string, other: string, value: "perSecond" | "cpu"): ReadonlyArray<number> => {
  const others = of(bench, other)?.throughputs ?? []
  return (of(bench, one)?.throughputs ?? []).flatMap((run, round) => {
    const beside = others[round]
    return beside === undefined ? [] : [run[value] / beside[value]]
  })
}

/** A target of the project, and what was reached. */
export interface Reached {
  readonly what: string
  readonly wanted: string
  readonly reached: string
  readonly met: boolean | undefined
}

const atLeast = (what: string, values: ReadonlyArray<number>, bound: number): Reached => ({
  what,
  wanted: `at least ${bound}`,
  reached: spread(values, 2),
  met: values.length === 0 ? undefined : median(values) >= bound
})

const atMost = (what: string, values: ReadonlyArray<number>, bound: number, unit = "", digits = 2): Reached => ({
  what,
  wanted: `at most ${bound}${unit}`,
  reached: values.length === 0 ? "–" : `${spread(values, digits)}${unit}`,
  met: values.length === 0 ? undefined : median(values) <= bound
})

const minimum = (count: number) => Math.ceil(Math.max(0, Math.ceil(count / 50) - 50) / 2)

/** What each contestant adds to a direct call. */
const added = (latencies: ReadonlyArray<Latency>, direct: ReadonlyArray<Latency>, part: "p50" | "p99") =>
  latencies.map((latency) => latency[part] - median(direct.map(({ p50 }) => p50)))

export const targetsOf = (bench: Bench, scale: Scale): ReadonlyArray<Reached> => {
  const { direct, rest } = bench
  const idle = of(bench, "unpacked")?.idle ?? []
  const cloud = of(bench, "packed")?.cloud
  const megabytes = (bytes: number | undefined) => (bytes === undefined ? [] : [bytes / 1e6])
  return [
    atLeast("unpacked: throughput to plain on Bun", pairs(bench, "unpacked", "plain-bun", "perSecond"), 0.75),
    atMost("unpacked: CPU to plain on Bun", pairs(bench, "unpacked", "plain-bun", "cpu"), 1.6),
    atLeast("packed: throughput to plain on Bun", pairs(bench, "packed", "plain-bun", "perSecond"), 1.1),
    atMost("packed: CPU to plain on Bun", pairs(bench, "packed", "plain-bun", "cpu"), 1),
    atLeast("packed: throughput to the broker floor", pairs(bench, "packed", "floor", "perSecond"), 0.7),
    atMost("added when idle, p50", added(idle, direct, "p50"), 1, " ms"),
    atMost("added when idle, p99", added(idle, direct, "p99"), 4, " ms"),
    atMost(
      `peak memory, ${scale.backlog.toLocaleString("en-US")} in the queue, answers of 2 KB, unpacked`,
      megabytes(rest?.unpackedBacklog),
      160,
      " MB",
      0
    ),
    atMost("the same, packed", megabytes(rest?.packedBacklog), 160, " MB", 0),
    atMost("peak memory, an answer of 15 MB", megabytes(rest?.largeAnswer), 300, " MB", 0),
    atMost(
      `${scale.drain.toLocaleString("en-US")} under cloud limits, to the least possible`,
      cloud === undefined || minimum(scale.drain) === 0 ? [] : [cloud.seconds / minimum(scale.drain)],
      1.1
    ),
    atMost("start until it consumes", rest?.starts ?? [], 300, " ms", 0),
    atMost("broker back until it consumes", rest?.back ?? [], 1_000, " ms", 0)
  ]
}

const duration = (drain: Drain | undefined, count: number) =>
  drain === undefined
    ? "–"
    : `${drain.seconds < 600 ? `${drain.seconds.toFixed(1)} s` : `${(drain.seconds / 60).toFixed(0)} min`}${drain.sample < count ? ` (from ${drain.sample})` : ""}`

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) =>
  [
    `| ${head.join(" | ")} |`,
    `| --- |${" ---: |".repeat(head.length - 1)}`,
    ...rows.map((row) => `| ${row.join(" | ")} |`)
  ].join("\n")

const throughputTable = ({ rows }: Bench) =>
  table(
    ["", "requests/s", "CPU s per 10,000", "peak memory, MB"],
    rows.map(({ contestant, lacks, throughputs }) => [
      contestant.title,
      ...(lacks === undefined
        ? [
            spread(
              throughputs.map(({ perSecond }) => perSecond),
              0
            ),
            spread(
              throughputs.map(({ cpu }) => cpu),
              2
            ),
            spread(
              throughputs.map(({ peak }) => peak / 1e6),
              0
            )
          ]
        : [lacks, "", ""])
    ])
  )

const ratioTable = (bench: Bench) =>
  table(
    ["", "throughput to plain on Bun", "CPU to plain on Bun", "throughput to the floor"],
    bench.rows
      .filter(({ throughputs }) => throughputs.length > 0)
      .map(({ contestant: { name, title } }) => [
        title,
        spread(pairs(bench, name, "plain-bun", "perSecond"), 2),
        spread(pairs(bench, name, "plain-bun", "cpu"), 2),
        spread(pairs(bench, name, "floor", "perSecond"), 2)
      ])
  )

const latencyTable = ({ rows, direct }: Bench) =>
  table(
    ["added, ms", "idle p50", "idle p99", "half load p50", "half load p99", "at"],
    rows
      .filter(({ idle }) => idle.length > 0)
      .map(({ contestant, idle, loaded }) => {
        const columns = [
          added(idle, direct, "p50"),
          added(idle, direct, "p99"),
          added(loaded, direct, "p50"),
          added(loaded, direct, "p99")
        ].map((values) => spread(values, 2))
        const rate = loaded.length === 0 ? "–" : `${median(loaded.map(({ rate }) => rate)).toFixed(0)}/s`
        return [contestant.title, columns, rate].flat()
      })
  )

const drainTable = ({ rows }: Bench, count: number) =>
  table(
    [`${count.toLocaleString("en-US")} requests`, "portal of 100 ms", "cloud limits"],
    rows
      .filter(({ latency, cloud }) => latency !== undefined || cloud !== undefined)
      .map(({ contestant, latency, cloud }) => [contestant.title, duration(latency, count), duration(cloud, count)])
  )

/** The plots by file name. */
export const plotsOf = ({ rows }: Bench): Readonly<Record<string, string>> => {
  const bars = (valuesOf: (row: Row) => ReadonlyArray<number>): ReadonlyArray<Bar> =>
    rows.flatMap((row) => {
      const values = valuesOf(row)
      if (values.length === 0) return []
      const { title: name, program } = row.contestant
      return [
        {
          name,
          value: median(values),
          least: Math.min(...values),
          most: Math.max(...values),
          ours: program === undefined
        }
      ]
    })
  const drains = (part: "cloud" | "latency") => bars((row) => (row[part] === undefined ? [] : [row[part].seconds]))
  const plots: Readonly<Record<string, readonly [string, ReadonlyArray<Bar>, { readonly log: boolean }]>> = {
    "throughput.svg": [
      "Requests per second, portal that takes no time (log)",
      bars(({ throughputs }) => throughputs.map(({ perSecond }) => perSecond)),
      { log: true }
    ],
    "cpu.svg": [
      "CPU seconds per 10,000 requests (log)",
      bars(({ throughputs }) => throughputs.map(({ cpu }) => cpu)),
      { log: true }
    ],
    "cloud.svg": ["Seconds for 10,000 requests under cloud limits (log)", drains("cloud"), { log: true }],
    "latency.svg": ["Seconds for 10,000 requests, portal of 100 ms (log)", drains("latency"), { log: true }]
  }
  return Object.fromEntries(
    Object.entries(plots)
      .filter(([, [, bars]]) => bars.length > 0)
      .map(([file, [title, bars, options]]) => [file, barsOf(title, bars, options)])
  )
}

/** The report as Markdown. */
export const reportOf = (bench: Bench, scale: Scale, setting: BenchSetting): string => {
  const count = (value: number) => value.toLocaleString("en-US")
  return `# Benchmarks

<!-- Written by \`bun run bench\`; the last table comes from bench/bench/costs.md. -->

What the bridge costs beside what one would write or pick instead. All programs get the same requests from the same RabbitMQ on the same machine, in turn, ${scale.rounds} rounds of it; a figure is the median, in brackets the least and the most of the rounds. Ratios are taken within each round.

| | |
| --- | --- |
| Command | \`${setting.command}\` |
| Machine | ${setting.machine} |
| Load at the start | ${setting.load} |
| Versions | ${setting.versions} |
| Commit | ${setting.commit} |
| Date | ${setting.date} |

\`bun run bench [ROW...] [--rounds N] [--messages N] [--no-drains] [--no-rest]\` repeats all of it or some rows: ${bench.rows.map(({ contestant }) => `\`${contestant.name}\``).join(", ")}. Absolute figures are those of this machine; read the ratios.

## Targets

${table(
  ["", "wanted", "reached", ""],
  targetsOf(bench, scale).map(({ what, wanted, reached, met }) => [
    what,
    wanted,
    reached,
    met === undefined ? "not measured" : met ? "met" : "**missed**"
  ])
)}

## A backlog, and a portal that takes no time

![Requests per second](plots/throughput.svg)

${throughputTable(bench)}

A backlog of ${count(scale.messages)} lies in the queue before the program starts (fewer for those who are slower); its first half warms the program up, the second is measured, with answers of 300 bytes. CPU is that of the program alone: portal, broker and measuring have processes of their own on the same cores. The floor calls no portal at all. Plain programs and floor have a prefetch of 256, which suits them best; the bridge has its defaults, with confirms, validation, limits and accounting on. The shell loop passes neither headers nor ids on and waits for no confirm: it is here for its cost only.

![CPU seconds](plots/cpu.svg)

${ratioTable(bench)}

## Latency

${latencyTable(bench)}

What is added to the median of a direct call (${spread(
    bench.direct.map(({ p50 }) => p50),
    2
  )} ms). Each program has worked off a backlog before, so that it is compiled. Idle: one request after the other, ${scale.singles} in a round. Half load: requests come at half the pace of the table above, by the clock. The floor shows what two queues alone take.

## A backlog under limits

![Seconds under cloud limits](plots/cloud.svg)

![Seconds with a portal of 100 ms](plots/latency.svg)

${drainTable(bench, scale.drain)}

Cloud limits: a burst of 50 calls, then 2 a second; packed, the least possible is ${minimum(scale.drain)} s. The rivals ask again a second after each refusal, which as a rule they are not written to do. A portal of 100 ms is what the original bridge met; everybody who can has 50 calls at once. "From N" was asked N times and extrapolated.

## Memory and moments

${
  bench.rest === undefined
    ? "Not measured in this run."
    : `- ${count(scale.backlog)} in the queue, answers of 2 KB: ${(bench.rest.unpackedBacklog / 1e6).toFixed(0)} MB at the peak unpacked, ${(bench.rest.packedBacklog / 1e6).toFixed(0)} MB packed.
- An answer of 15 MB: ${(bench.rest.largeAnswer / 1e6).toFixed(0)} MB at the peak.
- From the start of the process until it consumes: ${spread(bench.rest.starts, 0)} ms.
- From the moment a killed broker answers again until the bridge consumes: ${spread(bench.rest.back, 0)} ms, after outages of ${scale.outages.join(", ")} s.`
}

${setting.costs.trim()}
`
}
