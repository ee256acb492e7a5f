import type { Rate } from "../settings.ts"

/**
 * The portal's request rate, as a leaky bucket (bitrix24/b24restdocs:limits.md): each HTTP request adds one, the level
 * falls by `rate` a second, and above `depth` the portal refuses with QUERY_LIMIT_EXCEEDED. Pure: times are milliseconds
 * of a monotonic clock.
 */
export interface Bucket {
  /** Requests a second that leak; Infinity while no limit is known. */
  readonly rate: number
  readonly depth: number
  /** What the portal's level is believed to be at the time `at`. */
  readonly level: number
  readonly at: number
  /** False if the user has said that there is no limit. */
  readonly learns: boolean
  /** Up to where rate and depth come back after they were lowered: refusals alone tell how fast a learned one may be. */
  readonly most: Size
  /** When the model was last corrected, and after how many milliseconds of calm it tries for more. */
  readonly correctedAt: number
  readonly calm: number
  /** Refusals since the last request that was let in, and whether any request has gone since the last of them. */
  readonly refusals: number
  readonly asked: boolean
  /** When the portal's bucket was last known to be full, and how many requests have gone since. */
  readonly fullAt: number
  readonly sent: number
  /** It was believed empty at some time since then: what has gone since tells its depth, and not its rate. */
  readonly emptied: boolean
  /** What the buckets of the vendor's plans would hold, had the portal one: by that its first refusal is understood. */
  readonly plans: readonly [smaller: Plan, larger: Plan]
}

interface Size {
  readonly rate: number
  readonly depth: number
}

/** A plan's bucket as it would be now, and since when it has not been empty. */
interface Plan extends Size {
  readonly level: number
  readonly at: number
  readonly since: number
}

/** Numbers of the cloud for all plans but Enterprise. */
const cloud: Size = { rate: 2, depth: 50 }
const enterprise: Size = { rate: 5, depth: 250 }

/** Domains of cloud portals: HOST.bitrix24.ZONE. */
const cloudHost =
  /(^|\.)bitrix24\.(com|ru|eu|de|fr|es|in|it|pl|ua|by|kz|uz|tech|jp|vn|id|cn|mx|co|com\.br|com\.tr|co\.uk|xyz)$/

const unlimited: Size = { rate: Infinity, depth: Infinity }

/** A rate that is used up grows by this factor with each calm, which refusals make longer. */
const grow = 1.25
const slowest = 0.2
const shortestCalm = 5_000
const longestCalm = 60_000
/** Where what was seen looks like a plan's limit. */
const provenCalm = 30_000

/** Seconds from which on a rate can be told by counting. */
const enough = 5

/**
 * How much more than a plan's depth may have gone when its bucket is full: calls in flight are refused together with the
 * first, and nobody can tell yet which of them went through.
 */
const tolerance = 1.6

/** The bucket at the start: believed empty, for nobody tells us what others have sent. */
export const bucketFor = (rate: Rate, host: string, now: number): Bucket => {
  const known = typeof rate === "object" ? rate : rate === "auto" && cloudHost.test(host) ? cloud : unlimited
  const empty = { level: 0, at: now, since: now }
  return {
    ...known,
    learns: rate !== "off",
    level: 0,
    at: now,
    most: known,
    correctedAt: now,
    calm: shortestCalm,
    refusals: 0,
    asked: false,
    fullAt: now,
    sent: 0,
    emptied: true,
    plans: [
      { ...cloud, ...empty },
      { ...enterprise, ...empty }
    ]
  }
}

/** What the portal's level is believed to be at a time. */
export const levelAt = ({ level, rate, at }: Size & { level: number; at: number }, now: number) =>
  Math.max(0, level - (rate * (now - at)) / 1_000)

/** Rate and depth as they have recovered by now: only where they hold somebody back, or they would grow unproven. */
const recovered = (bucket: Bucket, now: number): Bucket => {
  const { most } = bucket
  if (now - bucket.correctedAt < bucket.calm || (bucket.rate >= most.rate && bucket.depth >= most.depth)) return bucket
  const level = levelAt(bucket, now)
  if (level + 2 <= brim(bucket)) return bucket
  return {
    ...bucket,
    level,
    at: now,
    rate: Math.min(most.rate, bucket.rate * grow),
    depth: Math.min(most.depth, bucket.depth * grow),
    correctedAt: now
  }
}

/**
 * The level up to which we fill it. The portal's level may fall in steps of `rate` once a second rather than smoothly,
 * which is not documented; a second's worth is left free for that.
 */
const brim = ({ depth, rate }: Size) => Math.max(1, depth - Math.min(rate, depth / 2))

/** How many requests may go now. */
export const roomIn = (bucket: Bucket, now: number): number => {
  if (bucket.rate === Infinity) return Infinity
  const current = recovered(bucket, now)
  return Math.floor(brim(current) - levelAt(current, now) + 1e-9)
}

/** When the next request may go; `now` or earlier if it may at once. */
export const roomAt = (bucket: Bucket, now: number): number => {
  const { rate } = bucket
  if (rate === Infinity) return now
  const over = levelAt(bucket, now) + 1 - brim(bucket)
  return over <= 0 ? now : now + Math.ceil((over * 1_000) / rate)
}

/** The bucket under another setting. What has gone before is in it still, as far as is known. */
export const bucketInstead = (before: Bucket, rate: Rate, host: string, now: number): Bucket => {
  const bucket = bucketFor(rate, host, now)
  if (bucket.rate === Infinity) return bucket
  const level = Math.min(bucket.depth, levelAt(before.rate === Infinity ? before.plans[0] : before, now))
  return { ...bucket, level, emptied: level === 0 }
}

/** One request goes. */
export const fill = (bucket: Bucket, now: number): Bucket => {
  if (!bucket.learns) return bucket
  if (bucket.rate === Infinity) {
    const [smaller, larger] = bucket.plans
    return { ...bucket, plans: [fillPlan(smaller, now), fillPlan(larger, now)] }
  }
  const current = recovered(bucket, now)
  const level = levelAt(current, now)
  const emptied = current.emptied || level === 0
  return { ...current, level: level + 1, at: now, sent: current.sent + 1, asked: true, emptied }
}

const fillPlan = (plan: Plan, now: number): Plan => {
  const level = levelAt(plan, now)
  return { ...plan, level: level + 1, at: now, since: level === 0 ? now : plan.since }
}

/** The portal is full at this time, and has been so or less since. */
const full = (bucket: Bucket, now: number): Bucket => ({
  ...bucket,
  level: bucket.depth,
  at: now,
  fullAt: now,
  sent: 0,
  asked: false,
  emptied: false
})

/** What has gone since the last refusal was answered otherwise: without that an answer is one of those before it. */
export const letIn = (bucket: Bucket, now: number): Bucket => {
  if (bucket.refusals === 0 || !bucket.asked) return bucket
  // Where refused requests fill the bucket, too, it took long until it had room again, and it has not much now.
  return { ...(bucket.refusals > 1 ? full(bucket, now) : bucket), refusals: 0 }
}

/** The portal refused: it is full, whatever we believed. */
export const overflow = (bucket: Bucket, now: number): Bucket => {
  if (!bucket.learns) return bucket
  if (bucket.rate === Infinity) {
    const { rate, depth, calm } = understood(bucket.plans, now)
    const most = { rate: Infinity, depth }
    return full({ ...bucket, rate, depth, most, calm, correctedAt: now, refusals: 1 }, now)
  }
  // Refused again, and nobody let in since: it is full still, and that tells nothing of its size.
  if (bucket.refusals > 0) return full({ ...bucket, refusals: bucket.refusals + 1 }, now)
  const seconds = (now - bucket.fullAt) / 1_000
  // Full before and full again: what has gone in the meantime is what has leaked, but for a few at either end.
  if (!bucket.emptied && seconds < enough) {
    return { ...bucket, level: bucket.depth, at: now, sent: bucket.sent - 1, refusals: 1, asked: false }
  }
  const rate = bucket.emptied ? bucket.rate : Math.max(slowest, Math.min(bucket.rate, (bucket.sent - 1) / seconds))
  const depth = bucket.emptied ? Math.min(bucket.depth, Math.max(1 + rate, levelAt(bucket, now))) : bucket.depth
  const calm = Math.min(longestCalm, bucket.calm * 2)
  return full({ ...bucket, rate, depth, calm, correctedAt: now, refusals: 1 }, now)
}

/** What the first refusal of a portal of which nothing was known tells: the smallest bucket that could have taken so much. */
const understood = ([smaller, larger]: Bucket["plans"], now: number) => {
  const plan = levelAt(smaller, now) <= smaller.depth * tolerance ? smaller : larger
  const { rate, depth, since } = plan
  const level = levelAt(plan, now)
  const calm = level >= depth * 0.9 && level <= depth * tolerance ? provenCalm : shortestCalm
  // More than any plan takes: the rest can only have leaked.
  const more = level <= depth * tolerance ? 0 : (level - depth) / Math.max(1, (now - since) / 1_000)
  return { rate: rate + more, depth, calm }
}
