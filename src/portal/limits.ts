import type { Rate } from "../settings.ts"
import { type Bucket, bucketFor, bucketInstead, fill, letIn, levelAt, overflow, roomAt, roomIn } from "./bucket.ts"
import * as Operating from "./operating.ts"
import type { Outcome } from "./outcome.ts"

/**
 * What the portal allows now, as far as its answers tell: its rate, its methods' operating time, its health. Pure: times
 * are milliseconds of a monotonic clock, and every function returns the next state.
 */
export interface Limits {
  readonly bucket: Bucket
  readonly operating: Operating.Operating
  /** Calls that may be in flight at `since`; one more is allowed with every second after it. */
  readonly allowed: number
  readonly since: number
  /** `suspect`: a call failed in silence and a probe is asking. `away`: the probe failed too. */
  readonly health: "well" | "suspect" | "away"
  /** Signs of life in a row since the last silence. */
  readonly signs: number
  /** No call before this time, and how many refusals in a row led to it. */
  readonly pausedUntil: number
  readonly pauses: number
}

export type WaitReason = "portal unavailable" | "rate" | "operating time" | "concurrency"

/** How many calls may leave now; if none, why, and when to ask again if time alone helps. */
export interface Room {
  readonly calls: number
  readonly reason: WaitReason
  readonly until: number | undefined
}

/** Before any answer has come. `host`: the portal's, for its limits may be known by its name. */
export const atStart = (now: number, rate: Rate, host: string): Limits => ({
  bucket: bucketFor(rate, host, now),
  operating: Operating.nothingUsed,
  allowed: Infinity,
  since: now,
  health: "well",
  signs: Infinity,
  pausedUntil: 0,
  pauses: 0
})

const firstPause = 1_000
const pauseGrowth = 1.5
const longestPause = 30_000

/** Failures closer together than this belong to one event: the calls that were in flight together. */
const oneEvent = 1_000

/**
 * Signs of life that a write waits for after a silence. A gateway that fails every now and then answers a probe, too; a
 * read may be repeated through that, a write that is cut off is in doubt for good.
 */
const enoughSigns = 3

/** How many calls may be in flight now, of the `ceiling` that the settings allow. */
export const concurrencyOf = (limits: Limits, now: number, ceiling: number) =>
  Math.min(ceiling, Math.max(1, limits.allowed + Math.floor((now - limits.since) / 1_000)))

const nextRaise = (limits: Limits, now: number) => limits.since + (Math.floor((now - limits.since) / 1_000) + 1) * 1_000

/** How many HTTP requests may leave now, with `inFlight` on their way. */
export const room = (limits: Limits, now: number, inFlight: number, ceiling: number): Room => {
  if (limits.health !== "well") return none("portal unavailable", undefined)
  if (now < limits.pausedUntil) return none("rate", limits.pausedUntil)
  // After a refusal one call asks whether the others may go.
  if (limits.pauses > 0 && inFlight > 0) return none("rate", undefined)
  const slots = concurrencyOf(limits, now, ceiling) - inFlight
  // A call that ends makes room at once; a ceiling that was lowered is raised by time alone.
  if (slots < 1) return none("concurrency", inFlight < ceiling ? nextRaise(limits, now) : undefined)
  const requests = roomIn(limits.bucket, now)
  if (requests < 1) return none("rate", roomAt(limits.bucket, now))
  const calls = limits.pauses > 0 ? 1 : Math.min(slots, requests)
  return { calls, reason: "concurrency", until: undefined }
}

const none = (reason: WaitReason, until: number | undefined): Room => ({ calls: 0, reason, until })

/** Seconds that calls of a method (with its credential) may take beside those that `underWay` will; `until` as in `Room`. */
export const methodTime = ({ operating }: Limits, now: number, method: string, underWay: number) =>
  Operating.allowance(operating, now, method, underWay)

/** Whether the portal is steady enough for what cannot be repeated. */
export const steady = (limits: Limits) => limits.signs >= enoughSigns

/**
 * How long a request may wait for others to travel with, in milliseconds: the scarcer the rate has become, the longer,
 * up to the time in which the portal lets one more call in.
 */
export const linger = ({ bucket }: Limits, now: number): number =>
  bucket.rate === Infinity
    ? 0
    : Math.max(0, Math.min(1, 1 - roomIn(bucket, now) / bucket.depth)) * (1_000 / bucket.rate)

/** What a call of a method takes in seconds as a rule; undefined before one was answered. */
export const learnedCost = ({ operating }: Limits, method: string) => Operating.learnedCost(operating, method)

/** What a call of a method takes in seconds as a rule, or next to nothing where that is not known. */
export const costOf = ({ operating }: Limits, method: string) => Operating.costOf(operating, method)

/** Operating time that a method may take now, and that comes free: as in operating.ts. */
export const flowOf = ({ operating }: Limits, now: number, method: string) => Operating.flowOf(operating, now, method)

/** The operating time of each method: as in operating.ts. */
export const usesOf = ({ operating }: Limits, now: number) => Operating.usesOf(operating, now)

/** Seconds of operating time that one call may take for others to get as much while the rate lets them go. */
export const shareOf = ({ operating, bucket }: Limits) => Operating.shareOf(operating, bucket.rate)

/** Seconds that a batch should not exceed. */
export const longestOf = ({ operating, bucket }: Limits) => Operating.longestOf(operating, bucket.rate)

/** The rate as it is believed to be, and how full the portal's bucket is. */
export const rateOf = ({ bucket }: Limits, now: number) => ({
  perSecond: bucket.rate,
  depth: bucket.depth,
  level: bucket.rate === Infinity ? 0 : levelAt(bucket, now),
  room: roomIn(bucket, now)
})

/** Under another setting of the rate. */
export const withRate = (limits: Limits, now: number, rate: Rate, host: string): Limits => ({
  ...limits,
  bucket: bucketInstead(limits.bucket, rate, host, now)
})

/** An HTTP request leaves. */
export const left = (limits: Limits, now: number): Limits => ({ ...limits, bucket: fill(limits.bucket, now) })

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

const suspected = (limits: Limits): Limits => ({
  ...limits,
  health: limits.health === "away" ? "away" : "suspect",
  signs: 0
})

/** A call got past the rate limit. */
const through = (limits: Limits, now: number): Limits => {
  if (limits.pauses === 0) return limits
  const bucket = letIn(limits.bucket, now)
  return bucket.refusals > 0 ? limits : { ...limits, bucket, pauses: 0 }
}

const alive = (limits: Limits): Limits => (limits.signs === Infinity ? limits : { ...limits, signs: limits.signs + 1 })

/** Learns from what an HTTP request came to. `method`: with its credential; a batch is the method `batch`. */
export const learn = (limits: Limits, now: number, method: string, outcome: Outcome, ceiling: number): Limits => {
  switch (outcome._tag) {
    case "Done":
    case "Refused":
      return learnMethod(alive(through(limits, now)), now, method, outcome)
    case "Limited":
      if (outcome.scope === "method") return learnMethod(alive(through(limits, now)), now, method, outcome)
      // Those that were in flight together are refused together, and teach the same once.
      return now < limits.pausedUntil
        ? alive(limits)
        : paused({ ...alive(limits), bucket: overflow(limits.bucket, now) }, now)
    case "Unavailable":
      return suspected(paused(limits, now))
    case "Unknown":
      return outcome.silent ? suspected(halved(limits, now, ceiling)) : alive(halved(limits, now, ceiling))
  }
}

/** Learns what the answer of a method says of its operating time. */
const learnMethod = (limits: Limits, now: number, method: string, outcome: Outcome): Limits => {
  if (outcome._tag === "Done" && outcome.time !== undefined) {
    return { ...limits, operating: Operating.spent(limits.operating, now, method, outcome.time) }
  }
  return outcome._tag === "Limited" && outcome.scope === "method"
    ? { ...limits, operating: Operating.exceeded(limits.operating, now, method) }
    : limits
}

/** Learns the same from the answer of a member of a `batch`, which may have paid for it. */
export const learnMember = (limits: Limits, now: number, method: string, batch: string, outcome: Outcome): Limits =>
  outcome._tag === "Done" && outcome.time !== undefined && Operating.pays(limits.operating, batch)
    ? { ...limits, operating: Operating.ran(limits.operating, now, method, outcome.time) }
    : learnMethod(limits, now, method, outcome)

/** Learns from a probe. */
export const probed = (limits: Limits, lives: boolean): Limits =>
  lives ? { ...alive(limits), health: "well" } : { ...limits, health: "away", signs: 0 }
