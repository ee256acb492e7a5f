import type { Verdict } from "./checker.ts"

/** One run of an experiment. */
export interface Report {
  readonly experiment: string
  readonly run: string
  readonly rounds: number
  readonly seed: number
  readonly acknowledged: number
  readonly verdict: Verdict
  /** From the end of each fault until the bridge consumed, and until everything was answered; the longest, in ms. */
  readonly consumedAfter: number
  readonly answeredAfter: number
  /** What this experiment promises beyond the rest, and did not keep. */
  readonly more: ReadonlyArray<string>
  /** What this experiment measures beyond the rest. */
  readonly figures?: Figures
}

export type Figures = Readonly<Record<string, number | string>>

/** What is told and kept of one run. */
export interface Row {
  readonly experiment: string
  readonly run: string
  readonly figures: Figures
  /** The promises that it has broken. */
  readonly broken: ReadonlyArray<string>
}

/** The promises that a run has broken: with the requests that show it, for its seed brings them again. */
export const broken = ({ acknowledged, verdict, more }: Report): ReadonlyArray<string> => [
  ...(["lost", "doubled", "late", "wrong", "contradicting", "unknownNeedlessly"] as const).flatMap((promise) =>
    verdict[promise].length === 0
      ? []
      : [`${promise} ${verdict[promise].length}: ${verdict[promise].slice(0, 5).join(" ")}`]
  ),
  ...(acknowledged < verdict.attempted ? [`only ${acknowledged} of ${verdict.attempted} acknowledged`] : []),
  ...more
]

const columns: Readonly<Record<string, (report: Report) => number>> = {
  rounds: ({ rounds }) => rounds,
  seed: ({ seed }) => seed,
  attempted: ({ verdict }) => verdict.attempted,
  acknowledged: ({ acknowledged }) => acknowledged,
  answered: ({ verdict }) => verdict.answered,
  lost: ({ verdict }) => verdict.lost.length,
  doubled: ({ verdict }) => verdict.doubled.length,
  late: ({ verdict }) => verdict.late.length,
  wrong: ({ verdict }) => verdict.wrong.length + verdict.contradicting.length,
  unknown: ({ verdict }) => verdict.unknown.length,
  "had run": ({ verdict }) => verdict.unknownExecuted,
  resolved: ({ verdict }) => verdict.resolved,
  repeats: ({ verdict }) => verdict.repeats,
  twice: ({ verdict }) => verdict.duplicated.length,
  replayed: ({ verdict }) => verdict.replayed,
  packed: ({ verdict }) => verdict.packed,
  "consumes ms": ({ consumedAfter }) => Math.round(consumedAfter),
  "answers ms": ({ answeredAfter }) => Math.round(answeredAfter)
}

export const rowOf = (report: Report): Row => ({
  experiment: report.experiment,
  run: report.run,
  figures: {
    ...Object.fromEntries(Object.entries(columns).map(([name, of]) => [name, of(report)])),
    ...report.figures
  },
  broken: broken(report)
})

/** A line of JSON for machines. */
export const line = ({ figures, ...row }: Row): string => JSON.stringify({ ...row, ...figures })

/** Without the requests that show it. */
const said = (broken: Row["broken"]) =>
  broken.length === 0 ? "kept" : `BROKEN: ${broken.map((one) => one.replace(/:.*/s, "")).join(", ")}`

/** The cells of rows that have the same figures, with their heads. */
export const cells = (rows: ReadonlyArray<Row>): ReadonlyArray<ReadonlyArray<string>> => [
  ["run", ...Object.keys(rows[0]?.figures ?? {}), "promises"],
  ...rows.map(({ run, figures, broken }) => [run, ...Object.values(figures).map(String), said(broken)])
]

/** A table for people. */
export const table = (rows: ReadonlyArray<Row>): string => {
  const all = cells(rows)
  const widths = (all[0] ?? []).map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all
    .map((row) =>
      row
        .map((text, column) => (column === 0 ? text.padEnd(widths[0] ?? 0) : text.padStart(widths[column] ?? 0)))
        .join("  ")
    )
    .join("\n")
}
