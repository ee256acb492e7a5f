/**
 * When work that should move does not, and what is done about it. Pure: times are milliseconds of a monotonic clock.
 *
 * What is looked at each time is whether something is in a state that no working bridge stays in. What stays in it for too
 * long has stalled; each part has its remedies, from the mildest, and once these have not helped it is given up.
 */

/** What can stall. `bridge`: a request between the other parts. */
export type Part = "intake" | "bridge" | "dispatch" | "portal" | "outlet"

/** What is restarted. `dispatch`: it looks again at those who wait. */
export type Remedy = "intake" | "dispatch" | "outlet" | "connection"

const remedies: Readonly<Record<Part, ReadonlyArray<Remedy>>> = {
  intake: ["intake", "connection"],
  bridge: ["intake"],
  dispatch: ["dispatch"],
  // A call outlives every part but the process.
  portal: [],
  outlet: ["outlet", "connection"]
}

const parts = Object.keys(remedies) as ReadonlyArray<Part>

/** Something is as it may be for a moment, and not for longer than `limit`. `key`: the same next time is the same thing. */
export interface Suspicion {
  readonly key: unknown
  readonly part: Part
  readonly what: string
  readonly limit: number
}

/** All that is seen at one time. `progress`: what each part has done so far. */
export interface Sight {
  readonly at: number
  readonly suspicions: ReadonlyArray<Suspicion>
  readonly progress: Readonly<Record<Part, number>>
}

/** What is known of a part. */
interface Case {
  /** How many of its remedies were used, one more when it was given up. */
  readonly steps: number
  /** When the last of them was, or when it was over. */
  readonly at: number
  /** What it had done by then. */
  readonly progress: number
  readonly what: string | undefined
}

/** What is remembered from one look to the next. */
export interface Watch {
  readonly at: number
  /** Since when each suspicion has been there. */
  readonly since: ReadonlyMap<unknown, number>
  readonly cases: Readonly<Record<Part, Case>>
}

export type Verdict =
  /** `remedy`: what to do; undefined: all was done, and nothing helped. */
  | {
      readonly _tag: "Stalled"
      readonly part: Part
      readonly what: string
      readonly ms: number
      readonly remedy: Remedy | undefined
    }
  | { readonly _tag: "Over"; readonly part: Part; readonly ms: number }

export interface Bounds {
  /** Between two looks. */
  readonly tick: number
  /** A remedy within so long after the one before it is the next one; what has not come back for so long is over. */
  readonly calm: number
}

const unsuspected: Case = { steps: 0, at: -Infinity, progress: 0, what: undefined }

export const atStart = (at: number): Watch => ({
  at,
  since: new Map(),
  cases: { intake: unsuspected, bridge: unsuspected, dispatch: unsuspected, portal: unsuspected, outlet: unsuspected }
})

/** Looks once: what is to be said and done now. */
export const next = (watch: Watch, sight: Sight, bounds: Bounds): readonly [Watch, ReadonlyArray<Verdict>] => {
  const { at, suspicions } = sight
  // The process or its machine stood still: nothing could have moved.
  const before = at - watch.at > 5 * bounds.tick ? new Map<unknown, number>() : watch.since
  const since = new Map(suspicions.map(({ key }) => [key, before.get(key) ?? at]))
  const verdicts: Array<Verdict> = []
  const cases = { ...watch.cases }
  for (const part of parts) {
    const own = suspicions.filter((one) => one.part === part)
    const progress = sight.progress[part]
    let known = cases[part]
    const isCalm = at - known.at >= bounds.calm
    if (known.what !== undefined && (progress > known.progress || (own.length === 0 && isCalm))) {
      verdicts.push({ _tag: "Over", part, ms: at - known.at })
      known = { ...known, at, what: undefined }
    } else if (known.what === undefined && isCalm) known = unsuspected
    const lasted = (one: Suspicion) => at - Math.max(since.get(one.key) ?? at, known.at)
    const stalled = own.find((one) => lasted(one) >= one.limit)
    if (stalled !== undefined && (!isGivenUp(part, known) || isCalm)) {
      // What was given up is tried again from time to time: nobody else may do it.
      const remedy = remedies[part][known.steps] ?? (isGivenUp(part, known) ? remedies[part].at(-1) : undefined)
      verdicts.push({ _tag: "Stalled", part, what: stalled.what, ms: lasted(stalled), remedy })
      known = { steps: known.steps + 1, at, progress, what: stalled.what }
    }
    cases[part] = known
  }
  return [{ at, since, cases }, verdicts]
}

const isGivenUp = (part: Part, { steps, what }: Case) => what !== undefined && steps > remedies[part].length

/** What has stalled and has not moved since. */
export const stalls = ({ cases }: Watch): ReadonlyArray<{ readonly part: Part; readonly what: string }> =>
  parts.flatMap((part) => {
    const { what } = cases[part]
    return what === undefined ? [] : [{ part, what }]
  })

/** Whether nothing is left but to start the process again. */
export const isHopeless = ({ cases }: Watch) => parts.some((part) => isGivenUp(part, cases[part]))
