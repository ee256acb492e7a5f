import type { Outcome } from "./outcome.ts"

/**
 * What the portal allows now, as far as its answers tell. Pure: times are milliseconds of a monotonic clock, and every
 * function returns the next state.
 */
export interface Limits {
  /** Calls that may be in flight at `since`; one more is allowed with every second after it. */
  readonly allowed: number
  readonly since: number
  /** `suspect`: a call failed in silence and a probe is asking. `away`: the probe failed too. */
  readonly health: "well" | "suspect" | "away"
  /** No call before this time, and how many refusals in a row led to it. */
  readonly pausedUntil: number
  readonly pauses: number
  /** Methods of a credential that the portal has closed for their run time, and until when. */
  readonly closed: ReadonlyMap<string, number>
}

/** Says whether a call may go. `until`: when to ask again, if time alone helps. */
export type Permission =
  | { readonly _tag: "Go" }
  | { readonly _tag: "Wait"; readonly reason: WaitReason; readonly until: number | undefined }

export type WaitReason = "portal unavailable" | "rate" | "operating time" | "concurrency"

export const atStart = (now: number): Limits => ({
  allowed: Infinity,
  since: now,
  health: "well",
  pausedUntil: 0,
  pauses: 0,
  closed: new Map()
})

const firstPause = 1_000
const pauseGrowth = 1.5
const longestPause = 30_000

/** Step of waiting for a closed method of which no reset time is known (bitrix24/b24restdocs:limits.md). */
const methodPause = 60_000

/** Failures closer together than this belong to one event: the calls that were in flight together. */
const oneEvent = 1_000

/** How many calls may be in flight now, of the `ceiling` that the settings allow. */
export const concurrencyOf = (limits: Limits, now: number, ceiling: number) =>
  Math.min(ceiling, Math.max(1, limits.allowed + Math.floor((now - limits.since) / 1_000)))

const nextRaise = (limits: Limits, now: number) => limits.since + (Math.floor((now - limits.since) / 1_000) + 1) * 1_000

/** May a call to `method` (with its credential) go, with `inFlight` others on their way? */
export const next = (limits: Limits, now: number, method: string, inFlight: number, ceiling: number): Permission => {
  if (limits.health !== "well") return wait("portal unavailable", undefined)
  if (now < limits.pausedUntil) return wait("rate", limits.pausedUntil)
  const closedUntil = limits.closed.get(method)
  if (closedUntil !== undefined && now < closedUntil) return wait("operating time", closedUntil)
  if (inFlight < concurrencyOf(limits, now, ceiling)) return go
  // A call that ends makes room at once; a ceiling that was lowered is raised by time alone.
  return wait("concurrency", inFlight < ceiling ? nextRaise(limits, now) : undefined)
}

const go: Permission = { _tag: "Go" }
const wait = (reason: WaitReason, until: number | undefined): Permission => ({ _tag: "Wait", reason, until })

const halved = (limits: Limits, now: number, ceiling: number): Limits =>
  now - limits.since < oneEvent && limits.allowed !== Infinity
    ? limits
    : { ...limits, allowed: Math.max(1, Math.floor(concurrencyOf(limits, now, ceiling) / 2)), since: now }

const paused = (limits: Limits, now: number): Limits =>
  now < limits.pausedUntil
    ? limits
    : {
        ...limits,
        pausedUntil: now + Math.min(longestPause, firstPause * pauseGrowth ** limits.pauses),
        pauses: limits.pauses + 1
      }

/** Learns from what a call came to. */
export const learn = (limits: Limits, now: number, method: string, outcome: Outcome, ceiling: number): Limits => {
  switch (outcome._tag) {
    case "Done":
    case "Refused":
      return limits.pauses === 0 ? limits : { ...limits, pauses: 0 }
    case "Limited":
      return outcome.scope === "portal"
        ? paused(limits, now)
        : {
            ...limits,
            closed: new Map([...limits.closed].filter(([, until]) => now < until)).set(method, now + methodPause)
          }
    case "Unavailable":
      return { ...paused(limits, now), health: limits.health === "away" ? "away" : "suspect" }
    case "Unknown":
      return outcome.silent
        ? { ...halved(limits, now, ceiling), health: limits.health === "away" ? "away" : "suspect" }
        : halved(limits, now, ceiling)
  }
}

/** Learns from a probe. */
export const probed = (limits: Limits, alive: boolean): Limits => ({ ...limits, health: alive ? "well" : "away" })
