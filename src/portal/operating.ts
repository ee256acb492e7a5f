/**
 * Operating time: what each method of each credential may use in ten one-minute buckets (bitrix24/b24restdocs:limits.md).
 * Learned from the `time` of answers alone, for the limit depends on the plan, and some portals have none. Pure: times
 * are milliseconds of a monotonic clock, sums and costs are seconds as the portal counts them.
 */
export interface Operating {
  /** Of each method of a credential. */
  readonly uses: ReadonlyMap<string, Use>
  /** The least sum at which a method was closed: from there on it is dangerous. Undefined until one was. */
  readonly limit: number | undefined
}

interface Use {
  /** The portal's own sum, as of its last answer. */
  readonly sum: number
  /** What a call takes, averaged over the last ones. */
  readonly cost: number
  /** When the oldest bucket leaves the sum: from then on the sum is less than we know. */
  readonly resetAt: number | undefined
  /** The farthest reset that was told, in seconds: nearly the ten buckets. */
  readonly span: number
  /** No call before this time: the portal has closed the method. */
  readonly closedUntil: number
  /** How long it was waited for blindly the last time, in milliseconds; 0 once it has answered. */
  readonly blind: number
}

/** What an answer says of its method: `operating`, and `operating_reset_at` less its own `finish`, both in seconds. */
export interface TimeSpent {
  readonly sum: number
  readonly resetIn: number | undefined
  /** `processing`, or `duration` where that is missing. */
  readonly took: number
}

export const nothingUsed: Operating = { uses: new Map(), limit: undefined }

/**
 * Waits for a closed method of which nothing is known, in milliseconds, as after a restart: it may have been closed for
 * long. Each is twice as long as the one before, up to a bucket, as documented.
 */
const firstBlind = 2_000
const longestBlind = 60_000
const buckets = 10
/** A reset is waited out this much longer: it is told in whole seconds. */
const afterReset = 1_000
/** The part of the known limit that is used: a call that crosses it still runs, the next one is refused. */
const safe = 0.98

const fresh: Use = { sum: 0, cost: 0, resetAt: undefined, span: 0, closedUntil: 0, blind: 0 }

/** Methods that are remembered without need: custom ones may have any name. */
const manyUses = 100

const withUse = (operating: Operating, now: number, method: string, use: Use): Operating => {
  const uses = new Map(operating.uses).set(method, use)
  if (uses.size > manyUses) {
    for (const [name, { closedUntil, resetAt }] of uses) {
      if (name !== method && closedUntil <= now && (resetAt ?? 0) <= now) uses.delete(name)
    }
  }
  return { ...operating, uses }
}

/** Learns from an answer. */
export const spent = (operating: Operating, now: number, method: string, time: TimeSpent): Operating => {
  const known = operating.uses.get(method) ?? fresh
  const cost = known.cost === 0 ? time.took : known.cost * 0.8 + time.took * 0.2
  const resetAt = time.resetIn === undefined ? undefined : now + time.resetIn * 1_000
  const span = Math.max(known.span, time.resetIn ?? 0)
  // A sum above the limit that was not refused shows that the limit is higher.
  const limit = operating.limit === undefined ? undefined : Math.max(operating.limit, known.sum)
  return { ...withUse(operating, now, method, { ...known, sum: time.sum, cost, resetAt, span, blind: 0 }), limit }
}

/** Learns from OPERATION_TIME_LIMIT: the method is closed until its next reset, or for a while where none is known. */
export const exceeded = (operating: Operating, now: number, method: string): Operating => {
  const known = operating.uses.get(method) ?? fresh
  // Those that were in flight together are refused together, and teach the same once.
  if (now < known.closedUntil) return operating
  const blind = known.span > 0 ? 0 : Math.min(longestBlind, known.blind * 2 || firstBlind)
  const step = known.span > 0 ? (known.span * 1_000) / buckets : blind
  const reset = known.resetAt === undefined ? now : known.resetAt + afterReset
  const limit = known.sum === 0 ? operating.limit : Math.min(operating.limit ?? Infinity, known.sum)
  const closedUntil = reset > now ? reset : now + step
  return { ...withUse(operating, now, method, { ...known, closedUntil, blind }), limit }
}

/** How many calls of a method may go beside `underWay` of its kind, and when to look again if none may. */
export const allowance = (
  { uses, limit }: Operating,
  now: number,
  method: string,
  underWay: number
): { readonly calls: number; readonly until: number | undefined } => {
  const use = uses.get(method)
  if (use === undefined) return { calls: Infinity, until: undefined }
  if (now < use.closedUntil) return { calls: 0, until: use.closedUntil }
  if (limit === undefined || use.cost === 0) return { calls: Infinity, until: undefined }
  // Its sum has fallen since, by how much only an answer tells: one call asks.
  if (use.resetAt !== undefined && now >= use.resetAt) return { calls: underWay === 0 ? 1 : 0, until: undefined }
  const calls = Math.floor((limit * safe - use.sum) / use.cost) - underWay
  if (calls >= 1 || use.resetAt === undefined) return { calls: Math.max(1, calls), until: undefined }
  return { calls: 0, until: use.resetAt }
}
