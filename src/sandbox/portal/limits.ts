import type { Credential } from "./credentials.ts"

/**
 * How often may be asked: a leaky bucket for each source address (bitrix24/b24restdocs:limits.md). Every HTTP request
 * adds one, above `burst` it is refused, and `fall` leak out in each `period` of milliseconds.
 */
export interface RateLimit {
  readonly burst: number
  readonly fall: number
  readonly period: number
  /** Whether it falls all at once at the end of each period, or evenly. Nobody has measured which. */
  readonly stepwise: boolean
  /** Whether a refused request fills the bucket too. Nobody has measured this either. */
  readonly countsRefused: boolean
}

/**
 * How long may be worked: the seconds of one method for one credential in ten buckets (bitrix24/b24restdocs:limits.md;
 * avshatalov48/bitrix-core-business:modules/rest/lib/engine/access/loadlimiter.php).
 */
export interface OperatingLimit {
  /** `off`: both fields are missing. `unstored`: a box without Redis, where sums live inside one request only. */
  readonly state: "off" | "unstored" | "on"
  /** Seconds; a method is blocked while its sum is greater. */
  readonly limit: number
  /** Milliseconds of one of the ten buckets. */
  readonly bucket: number
  /** What a method took within one request counts only above so many seconds. */
  readonly threshold: number
  /** Who pays for a batch: the methods in it, or `batch` as a whole (bitrix24/b24jssdk#459). */
  readonly payer: "methods" | "batch"
  /** A block ends when the sum has fallen, or so many milliseconds after it began. The vendor's pages disagree. */
  readonly ban: number | undefined
  /** Seconds that a method costs beyond those it took, so that a block can be reached without waiting for it. */
  readonly cost: Readonly<Record<string, number>>
}

/**
 * After how many milliseconds a request is cut, and how that looks. What has not run by then never does (a prefix of a
 * batch is done), unless the method `goesOn` behind the web server's back.
 */
export interface TimeLimit {
  readonly after: number
  readonly answer: "html" | "close" | "reset"
  readonly goesOn: boolean
}

export interface Limits {
  readonly rate: RateLimit | undefined
  readonly operating: OperatingLimit
  readonly time: TimeLimit
}

/** `cloud` and `enterprise` as documented; a self-hosted `box` limits nothing by itself. */
export type Preset = "cloud" | "enterprise" | "box"

/** A preset, and what differs from it. */
export interface LimitOptions {
  readonly preset?: Preset
  readonly rate?: Partial<RateLimit>
  readonly operating?: Partial<OperatingLimit>
  readonly time?: Partial<TimeLimit>
}

const cloudRate: RateLimit = { burst: 50, fall: 2, period: 1000, stepwise: true, countsRefused: false }

const buckets = 10

export const limitsOf = (options: LimitOptions | Preset = "box"): Limits => {
  const given = typeof options === "string" ? { preset: options } : options
  const preset = given.preset ?? "box"
  const base = preset === "enterprise" ? { ...cloudRate, burst: 250, fall: 5 } : cloudRate
  return {
    rate: preset === "box" && given.rate === undefined ? undefined : { ...base, ...given.rate },
    operating: {
      state: preset === "box" && given.operating === undefined ? "off" : "on",
      limit: preset === "box" ? 420 : 480,
      bucket: 60_000,
      threshold: 0.1,
      payer: "methods",
      ban: undefined,
      cost: {},
      ...given.operating
    },
    time: { after: 60_000, answer: "html", goesOn: false, ...given.time }
  }
}

/** The bucket of each address that requests come from. Instants are milliseconds. */
export class RateBuckets {
  private readonly levels = new Map<string, { level: number; at: number }>()
  private readonly rule: RateLimit | undefined

  constructor(rule: RateLimit | undefined) {
    this.rule = rule
  }

  /** Whether a request that comes now is let in. */
  admits(address: string, now: number): boolean {
    if (this.rule === undefined) return true
    const { burst, countsRefused } = this.rule
    const known = this.levels.get(address)
    const bucket = known ?? { level: 0, at: now }
    if (known === undefined) this.levels.set(address, bucket)
    this.leak(bucket, now, this.rule)
    // What leaks out evenly adds up to whole requests only but for a rounding.
    const admitted = bucket.level + 1 <= burst + 1e-9
    if (admitted || countsRefused) bucket.level++
    return admitted
  }

  private leak(bucket: { level: number; at: number }, now: number, { fall, period, stepwise }: RateLimit): void {
    const periods = stepwise ? Math.floor((now - bucket.at) / period) : (now - bucket.at) / period
    if (periods <= 0) return
    bucket.level = Math.max(0, bucket.level - fall * periods)
    // Steps keep their beat: only whole periods are used up.
    bucket.at = stepwise ? bucket.at + periods * period : now
  }
}

interface Slot {
  sum: number
  readonly first: number
}

/** What one request has cost so far, by method: it is booked when the request ends. */
export type Ledger = Map<string, number>

export interface Operating {
  readonly sum: number
  /** Unix seconds. */
  readonly resetAt: number
}

const round = (seconds: number): number => Math.round(seconds * 1_000_000) / 1_000_000

/** The seconds of every method and credential. */
export class OperatingSums {
  private readonly slots = new Map<string, Map<number, Slot>>()
  private readonly bans = new Map<string, number>()
  readonly rule: OperatingLimit

  constructor(rule: OperatingLimit) {
    this.rule = rule
  }

  private key(credential: Credential, method: string): string {
    return `${credential.kind} ${credential.user} ${credential.secret} ${method}`
  }

  private live(key: string, now: number): Map<number, Slot> | undefined {
    const slots = this.slots.get(key)
    if (slots === undefined) return undefined
    const current = Math.floor(now / this.rule.bucket)
    for (const number of slots.keys()) if (number <= current - buckets) slots.delete(number)
    return slots
  }

  private counted(ledger: Ledger, method: string): number {
    const seconds = ledger.get(method) ?? 0
    return seconds > this.rule.threshold ? seconds : 0
  }

  private stored(key: string, now: number): number {
    let sum = 0
    for (const slot of this.live(key, now)?.values() ?? []) sum += slot.sum
    return sum
  }

  /** Whether a method may not run now. It is asked before every call, so the call that crosses the limit still ends. */
  blocks(credential: Credential, method: string, ledger: Ledger, now: number): boolean {
    const { state, limit } = this.rule
    if (state === "off") return false
    const key = this.key(credential, method)
    const until = this.bans.get(key)
    if (until !== undefined) {
      if (now < until) return true
      this.bans.delete(key)
      this.slots.delete(key)
    }
    return round(this.stored(key, now) + this.counted(ledger, method)) > limit
  }

  /** What the `time` block says of a method; nothing where the limiter is off. */
  operating(credential: Credential, method: string, ledger: Ledger, now: number): Operating | undefined {
    const { state, bucket } = this.rule
    if (state === "off") return undefined
    const key = this.key(credential, method)
    let first = now
    for (const slot of this.live(key, now)?.values() ?? []) if (slot.first < first) first = slot.first
    return {
      sum: round(this.stored(key, now) + this.counted(ledger, method)),
      resetAt: Math.floor((first + buckets * bucket) / 1000)
    }
  }

  /** Adds what a method took within a request, in seconds. */
  note(ledger: Ledger, method: string, seconds: number): void {
    ledger.set(method, (ledger.get(method) ?? 0) + seconds + (this.rule.cost[method] ?? 0))
  }

  /** Books a request that has ended. */
  book(credential: Credential, ledger: Ledger, now: number): void {
    const { state, bucket, limit, ban } = this.rule
    if (state !== "on") return
    for (const method of ledger.keys()) {
      const seconds = this.counted(ledger, method)
      if (seconds === 0) continue
      const key = this.key(credential, method)
      const slots = this.live(key, now) ?? new Map<number, Slot>()
      this.slots.set(key, slots)
      const number = Math.floor(now / bucket)
      const slot = slots.get(number)
      if (slot === undefined) slots.set(number, { sum: seconds, first: now })
      else slot.sum += seconds
      if (ban !== undefined && !this.bans.has(key) && round(this.stored(key, now)) > limit) {
        this.bans.set(key, now + ban)
      }
    }
  }
}
