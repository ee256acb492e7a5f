import { expect } from "bun:test"
import { isMet, line, type Report } from "../../bench/limits/report.ts"

/** All targets of a run are met; where one is not, all its figures are told. */
export const expectMet = (report: Report) => {
  const missed = report.targets.filter((target) => !isMet(target)).map(({ what }) => what)
  expect({ missed, ...(missed.length > 0 ? { figures: line(report) } : {}) }).toEqual({ missed: [] })
}

export const figure = (report: Report, name: string): number => Number(report.figures[name])
