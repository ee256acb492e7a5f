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
  /** Where a rate that was lowered by refusals goes back to; undefined if only refusals can tell. */
  readonly nominal: { readonly rate: number; readonly depth: number } | undefined
  /** When the model was last corrected, and after how many milliseconds of calm it tries for more. */
  readonly correctedAt: number
  readonly calm: number
  /** It was believed empty at some time since it was last full: then a refusal says how deep it is. */
  readonly emptied: boolean
}

/** Numbers of the cloud for all plans but Enterprise, which has 5 and 250. */
const cloud = { rate: 2, depth: 50 }

/** Domains of cloud portals: HOST.bitrix24.ZONE. */
const cloudHost =
  /(^|\.)bitrix24\.(com|ru|eu|de|fr|es|in|it|pl|ua|by|kz|uz|tech|jp|vn|id|cn|mx|co|com\.br|com\.tr|co\.uk|xyz)$/

const unlimited = { rate: Infinity, depth: Infinity }

/** A rate falls by this factor with a refusal, and grows by the other one with each calm, which refusals make longer. */
const shrink = 0.8
const grow = 1.1
const slowest = 0.2
const shortestCalm = 5_000
const longestCalm = 60_000

/** The bucket at the start: believed empty, for nobody tells us what others have sent. */
export const bucketFor = (rate: Rate, host: string, now: number): Bucket => {
  const known = typeof rate === "object" ? rate : rate === "auto" && cloudHost.test(host) ? cloud : undefined
  return {
    ...(known ?? unlimited),
    learns: rate !== "off",
    level: 0,
    at: now,
    nominal: known,
    correctedAt: now,
    calm: shortestCalm,
    emptied: true
  }
}

const levelAt = (bucket: Bucket, now: number) => Math.max(0, bucket.level - (bucket.rate * (now - bucket.at)) / 1_000)

/** The rate as it has recovered by now. */
const recovered = (bucket: Bucket, now: number): Bucket => {
  const steps = Math.floor((now - bucket.correctedAt) / bucket.calm)
  if (steps === 0 || bucket.rate === Infinity) return bucket
  const { nominal } = bucket
  if (nominal !== undefined && bucket.rate >= nominal.rate && bucket.depth >= nominal.depth) return bucket
  return {
    ...bucket,
    level: levelAt(bucket, now),
    at: now,
    rate: Math.min(nominal?.rate ?? Infinity, bucket.rate * grow ** steps),
    depth: Math.min(nominal?.depth ?? cloud.depth, bucket.depth * grow ** steps),
    correctedAt: bucket.correctedAt + steps * bucket.calm
  }
}

/**
 * The level up to which we fill it. The portal's level may fall in steps of `rate` once a second rather than smoothly,
 * which is not documented; a second's worth is left free for that.
 */
const brim = ({ depth, rate }: Bucket) => Math.max(1, depth - rate)

/** How many requests may go now. */
export const roomIn = (bucket: Bucket, now: number): number =>
  bucket.rate === Infinity ? Infinity : Math.floor(brim(bucket) - levelAt(recovered(bucket, now), now) + 1e-9)

/** When the next request may go; `now` or earlier if it may at once. */
export const roomAt = (bucket: Bucket, now: number): number => {
  const { rate } = bucket
  if (rate === Infinity) return now
  const over = levelAt(bucket, now) + 1 - brim(bucket)
  return over <= 0 ? now : now + Math.ceil((over * 1_000) / rate)
}

/** One request goes. */
export const fill = (bucket: Bucket, now: number): Bucket => {
  if (bucket.rate === Infinity) return bucket
  const current = recovered(bucket, now)
  const level = levelAt(current, now)
  return { ...current, level: level + 1, at: now, emptied: current.emptied || level === 0 }
}

/** The portal refused: it is full, whatever we believed, and the rate or the depth was less than we thought. */
export const overflow = (bucket: Bucket, now: number): Bucket => {
  if (!bucket.learns) return bucket
  if (bucket.rate === Infinity) {
    return { ...bucket, ...cloud, level: cloud.depth, at: now, correctedAt: now, emptied: false }
  }
  // From empty to full it took what we have sent: so deep it is. Full before and full again: it leaks slower.
  const depth = bucket.emptied ? Math.max(1 + bucket.rate, Math.min(bucket.depth, levelAt(bucket, now))) : bucket.depth
  const rate = bucket.emptied ? bucket.rate : Math.max(slowest, bucket.rate * shrink)
  const calm = Math.min(longestCalm, bucket.calm * 2)
  return { ...bucket, rate, depth, level: depth, at: now, correctedAt: now, calm, emptied: false }
}
