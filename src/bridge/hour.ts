/**
 * What was answered in the last hour, in steps of five seconds: how much, how much of it refused, and how long it took.
 * Pure, but for being kept in place: an answer costs two additions. Times are milliseconds of a monotonic clock.
 */
export class Hour {
  private readonly stamps = new Float64Array(steps).fill(-1)
  private readonly answers = new Uint32Array(steps)
  private readonly refusals = new Uint32Array(steps)
  private readonly latencies = new Uint32Array(steps * bins)
  private whole: { readonly step: number; readonly sum: Sum } | undefined

  /** One was answered, after so many milliseconds. */
  add(now: number, latency: number, refused: boolean): void {
    const step = this.stepAt(now)
    addOne(this.answers, step)
    if (refused) addOne(this.refusals, step)
    addOne(this.latencies, step * bins + binOf(latency))
  }

  /** The last `span` milliseconds, to the step. */
  sum(now: number, span: number): Sum {
    const last = Math.floor(now / stepOf)
    return this.over(last - Math.ceil(span / stepOf) + 1, last)
  }

  /** The whole hour: worked out once in a step. */
  all(now: number): Sum {
    const step = Math.floor(now / stepOf)
    if (this.whole?.step !== step) this.whole = { step, sum: this.over(step - steps + 1, step) }
    return this.whole.sum
  }

  /** Each step that is over, from the first in which there was an answer. */
  points(now: number): ReadonlyArray<Point> {
    const last = Math.floor(now / stepOf) - 1
    const points: Array<Point> = []
    for (let step = last - steps + 2; step <= last; step++) {
      const sum = this.over(step, step)
      if (sum.answers > 0 || points.length > 0) points.push({ at: step * stepOf, sum })
    }
    return points
  }

  private over(first: number, last: number): Sum {
    const counts = new Uint32Array(bins)
    let answers = 0
    let refused = 0
    for (let step = Math.max(0, first); step <= last; step++) {
      const at = step % steps
      if (this.stamps[at] !== step) continue
      answers += this.answers[at] ?? 0
      refused += this.refusals[at] ?? 0
      for (let bin = 0; bin < bins; bin++) counts[bin] = (counts[bin] ?? 0) + (this.latencies[at * bins + bin] ?? 0)
    }
    return { answers, refused, half: quantile(counts, 0.5), most: quantile(counts, 0.95) }
  }

  private stepAt(now: number): number {
    const step = Math.floor(now / stepOf)
    const at = step % steps
    if (this.stamps[at] !== step) {
      this.stamps[at] = step
      this.answers[at] = 0
      this.refusals[at] = 0
      this.latencies.fill(0, at * bins, (at + 1) * bins)
    }
    return at
  }
}

export interface Sum {
  readonly answers: number
  readonly refused: number
  /** Milliseconds within which a half, and 95 of 100, were answered; undefined where none was. */
  readonly half: number | undefined
  readonly most: number | undefined
}

/** A step, and when it began. */
export interface Point {
  readonly at: number
  readonly sum: Sum
}

/** Milliseconds. */
export const stepOf = 5_000
const steps = 720

/** Each power of two in four parts: a quantile is right to an eighth. The last begins at half an hour. */
const parts = 4
const bins = 21 * parts

const addOne = (counts: Uint32Array, at: number) => void (counts[at] = (counts[at] ?? 0) + 1)

const binOf = (latency: number): number => {
  if (!(latency >= parts)) return Math.max(0, Math.floor(latency) || 0)
  const octave = 31 - Math.clz32(Math.min(latency, 0x7fffffff))
  return Math.min(bins - 1, (octave - 1) * parts + ((latency >> (octave - 2)) & (parts - 1)))
}

const beginOf = (bin: number): number =>
  bin < parts ? bin : (parts + (bin % parts)) * 2 ** (Math.floor(bin / parts) - 1)

const quantile = (counts: Uint32Array, part: number): number | undefined => {
  const all = counts.reduce((sum, count) => sum + count, 0)
  if (all === 0) return undefined
  let seen = 0
  for (let bin = 0; bin < bins; bin++) {
    seen += counts[bin] ?? 0
    if (seen >= all * part) return (beginOf(bin) + beginOf(bin + 1)) / 2
  }
  return beginOf(bins - 1)
}
