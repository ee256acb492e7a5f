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
  /** When a method was last refused beyond it: after a whole span without that it is tried whether it is higher. */
  readonly refusedAt: number
  /** The farthest reset that was told, in seconds: nearly the ten buckets. 0 until one was. */
  readonly span: number
}

interface Use {
  /** The portal's own sum, as of its last answer. */
  readonly sum: number
  /** The highest sum that was told: 0 for what is never charged, as `batch` where its methods pay. */
  readonly highest: number
  /** What a call takes, averaged over the last ones. */
  readonly cost: number
  /** When the oldest bucket leaves the sum: from then on the sum is less than we know. */
  readonly resetAt: number | undefined
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

export const nothingUsed: Operating = { uses: new Map(), limit: undefined, refusedAt: 0, span: 0 }

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

/**
 * What is believed to be allowed before a refusal tells: 480 s in ten minutes, as in the vendor's example
 * (bitrix24/b24restdocs:limits.md), and where more was seen to be allowed, a little more than that.
 */
const usual = 480 / 600
const growth = 1.02
/** No call is planned for less, in seconds: so that one that is under way shows. */
const leastCost = 0.001

const fresh: Use = { sum: 0, highest: 0, cost: 0, resetAt: undefined, closedUntil: 0, blind: 0 }

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

const averaged = (known: Use, took: number) => (known.cost === 0 ? took : known.cost * 0.8 + took * 0.2)

/** After a whole span without a refusal it is tried. */
const mayBeHigher = ({ limit, refusedAt, span }: Operating, now: number) =>
  limit === undefined || now - refusedAt >= span * 1_000

/** Learns from an answer. */
export const spent = (operating: Operating, now: number, method: string, time: TimeSpent): Operating => {
  const { limit, uses } = operating
  const known = uses.get(method) ?? fresh
  const use: Use = {
    ...known,
    sum: time.sum,
    highest: Math.max(known.highest, time.sum),
    cost: averaged(known, time.took),
    resetAt: time.resetIn === undefined ? undefined : now + time.resetIn * 1_000,
    blind: 0
  }
  return {
    ...withUse(operating, now, method, use),
    // A sum above the limit at which one was not refused shows that the limit is higher, unless others were under way.
    limit: limit !== undefined && mayBeHigher(operating, now) ? Math.max(limit, time.sum - time.took) : limit,
    span: Math.max(operating.span, time.resetIn ?? 0)
  }
}

/** Learns from an answer of a method that another one paid for: what it takes, for the sum is the other one's. */
export const ran = (operating: Operating, now: number, method: string, { took }: TimeSpent): Operating => {
  const known = operating.uses.get(method) ?? fresh
  return withUse(operating, now, method, { ...known, cost: averaged(known, took), blind: 0 })
}

/** Learns from OPERATION_TIME_LIMIT: the method is closed until its next reset, or for a while where none is known. */
export const exceeded = (operating: Operating, now: number, method: string): Operating => {
  const known = operating.uses.get(method) ?? fresh
  // Those that were in flight together are refused together, and teach the same once.
  if (now < known.closedUntil) return operating
  const isKnown = known.resetAt !== undefined
  const blind = isKnown ? 0 : Math.min(longestBlind, known.blind * 2 || firstBlind)
  const step = isKnown ? (operating.span * 1_000) / buckets : blind
  const reset = known.resetAt === undefined ? now : known.resetAt + afterReset
  const limit = known.sum === 0 ? operating.limit : Math.min(operating.limit ?? Infinity, known.sum)
  const closedUntil = reset > now ? reset : now + step
  return { ...withUse(operating, now, method, { ...known, closedUntil, blind }), limit, refusedAt: now }
}

const isCharged = (use: Use | undefined) => use !== undefined && use.highest > 0

/** Whether a method pays for what it does. */
export const pays = ({ uses }: Operating, method: string) => isCharged(uses.get(method))

/** What a call of a method takes in seconds as a rule; undefined before one was answered. */
export const learnedCost = ({ uses }: Operating, method: string) => uses.get(method)?.cost

/** What a call of a method takes in seconds as a rule, or next to nothing where that is not known. */
export const costOf = ({ uses }: Operating, method: string) => Math.max(leastCost, uses.get(method)?.cost ?? 0)

/** What a method may take in `span`, in seconds, as far as is known. */
const allowed = ({ limit, span }: Operating, highest: number) =>
  limit === undefined ? Math.max(usual * span, growth * highest) : limit * safe

/**
 * How many seconds calls of a method may take beside those that calls `underWay` will, and when to look again if that is
 * less than one call.
 */
export const allowance = (
  operating: Operating,
  now: number,
  method: string,
  underWay: number
): { readonly seconds: number; readonly until: number | undefined } => {
  const use = operating.uses.get(method)
  if (use !== undefined && now < use.closedUntil) return { seconds: 0, until: use.closedUntil }
  if (use === undefined || !isCharged(use)) return { seconds: Infinity, until: undefined }
  const cost = costOf(operating, method)
  const seconds = allowed(operating, use.highest) - use.sum - underWay
  if (seconds >= cost) return { seconds, until: undefined }
  // One call asks: the sum has fallen since, by how much only an answer tells, or the limit may be higher.
  if (mayBeHigher(operating, now) || use.resetAt === undefined || now >= use.resetAt)
    return { seconds: underWay === 0 ? cost : 0, until: undefined }
  return { seconds: 0, until: use.resetAt }
}

/**
 * Seconds that a method may take now and those that come free each second, on average over the span; undefined for one that
 * is not charged. `until` as in `allowance`.
 */
export const flowOf = (operating: Operating, now: number, method: string) => {
  const use = operating.uses.get(method)
  if (use === undefined || !isCharged(use) || operating.span === 0) return undefined
  const { until } = allowance(operating, now, method, 0)
  const most = allowed(operating, use.highest)
  return { seconds: until === undefined ? Math.max(0, most - use.sum) : 0, perSecond: most / operating.span, until }
}

/** Methods whose time is counted: what they have used, may use, and until when they are closed. */
export const usesOf = (operating: Operating, now: number) =>
  Array.from(operating.uses, ([method, use]) => ({
    method,
    sum: use.sum,
    allowed: operating.span === 0 && operating.limit === undefined ? undefined : allowed(operating, use.highest),
    cost: use.cost,
    resetAt: use.resetAt,
    until: allowance(operating, now, method, 0).until
  })).filter(({ sum, until }) => sum > 0 || until !== undefined)

/** Seconds that one of `calls` in a second may take for the allowed time to last. Infinity where nothing is known. */
export const shareOf = (operating: Operating, calls: number) =>
  operating.span === 0 || calls === Infinity ? Infinity : allowed(operating, 0) / (operating.span * calls)

/**
 * Seconds that a batch should not exceed where time is counted. What it takes is booked when it ends, and free again a
 * whole span after that: it is to be short beside a bucket, and yet all together are to use more than is allowed.
 */
export const longestOf = (operating: Operating, calls: number) =>
  operating.span === 0 ? Infinity : Math.max(operating.span / buckets / 3, 3 * shareOf(operating, calls))
