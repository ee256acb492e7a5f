/** A straight line through measurements, by least squares. */
export interface Slope {
  readonly perHour: number
  /** The slope is below this with a certainty of 95 % (one side, Student's t). */
  readonly upper: number
}

/** What 95 % of Student's t are below, for so many degrees of freedom: the series of Cornish and Fisher. */
export const studentT95 = (freedom: number): number => {
  const z = 1.644_853_627
  return (
    z +
    (z ** 3 + z) / (4 * freedom) +
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * freedom ** 2) +
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * freedom ** 3)
  )
}

/** The slope of values over hours; undefined for fewer than four, which say nothing. */
export const slopeOf = (
  points: ReadonlyArray<{ readonly hour: number; readonly value: number }>
): Slope | undefined => {
  const count = points.length
  if (count < 4) return undefined
  const meanOf = (of: (point: (typeof points)[number]) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / count
  const hour = meanOf((point) => point.hour)
  const value = meanOf((point) => point.value)
  const spread = points.reduce((sum, point) => sum + (point.hour - hour) ** 2, 0)
  const perHour = points.reduce((sum, point) => sum + (point.hour - hour) * (point.value - value), 0) / spread
  const rest = points.reduce((sum, point) => sum + (point.value - value - perHour * (point.hour - hour)) ** 2, 0)
  const error = Math.sqrt(rest / (count - 2) / spread)
  return { perHour, upper: perHour + studentT95(count - 2) * error }
}
