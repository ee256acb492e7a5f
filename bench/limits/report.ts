/** Something that was measured, and what it may be at most. */
export interface Target {
  readonly what: string
  readonly measured: number
  readonly atMost: number
}

/** The figures of one run. */
export interface Report {
  readonly experiment: string
  readonly run: string
  readonly figures: Readonly<Record<string, number | string>>
  readonly targets: ReadonlyArray<Target>
}

export const isMet = ({ measured, atMost }: Target): boolean => measured <= atMost

/** Three decimals are more than any of these figures is worth. */
export const rounded = (value: number): number => Math.round(value * 1_000) / 1_000

/** A line of JSON for machines. */
export const line = ({ experiment, run, figures, targets }: Report): string =>
  JSON.stringify({
    experiment,
    run,
    ...Object.fromEntries(
      Object.entries(figures).map(([name, value]) => [name, typeof value === "number" ? rounded(value) : value])
    ),
    targets: targets.map(({ what, measured, atMost }) => ({
      what,
      measured: rounded(measured),
      atMost: rounded(atMost),
      met: isMet({ what, measured, atMost })
    }))
  })

/** A table for people: one row for each target. */
export const table = (reports: ReadonlyArray<Report>): string => {
  const rows = reports.flatMap(({ experiment, run, targets }) =>
    targets.map((target) => [
      `${experiment}: ${run}`,
      target.what,
      String(rounded(target.measured)),
      String(rounded(target.atMost)),
      isMet(target) ? "met" : "MISSED"
    ])
  )
  const all = [["run", "what", "measured", "at most", ""], ...rows]
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all.map((row) => row.map((text, column) => text.padEnd(widths[column] ?? 0)).join("  ")).join("\n")
}
