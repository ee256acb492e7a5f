import { expect, test } from "bun:test"
import { Effect } from "effect"
import fc from "fast-check"
import { mostCommands } from "../../src/portal/batch.ts"
import { type Asked, follow, type Trace, type Watcher } from "./trace.ts"

interface Told {
  readonly rate: number
  readonly depth: number
}

/** Looks on, and finds those who wait though nothing holds them. A rate of undefined is none. */
class Onlooker implements Watcher {
  readonly idle: Array<string> = []
  readonly scattered: Array<string> = []
  readonly overtaking: Array<string> = []
  private readonly trace: Trace
  private readonly told: Told | undefined
  private readonly isExcused: (one: Asked) => boolean
  private readonly waiting = new Set<number>()
  private readonly since = new Map<number, number>()
  private readonly lines = new Map<string, Array<number>>()
  private level = 0
  private at = 0
  private inFlight = 0

  constructor(trace: Trace, isExcused: (one: Asked) => boolean = () => false) {
    this.trace = trace
    this.isExcused = isExcused
    this.told = typeof trace.rate === "object" ? trace.rate : undefined
  }

  asked(at: number, which: number) {
    this.passes(at)
    this.waiting.add(which)
    this.since.set(which, at)
    const line = this.lineOf(which)
    if (line !== undefined) this.lines.set(line, [...(this.lines.get(line) ?? []), which])
  }

  departs(at: number, members: ReadonlyArray<number>) {
    this.passes(at)
    for (const which of members) {
      this.waiting.delete(which)
      if (!this.isFirst(which)) this.overtaking.push(`${which} leaves at ${at}`)
    }
    this.level++
    this.inFlight++
    this.scatters(at, members)
  }

  returns(at: number, members: ReadonlyArray<number>) {
    this.passes(at)
    this.inFlight--
    // Those who are not answered wait again.
    for (const which of members) this.waiting.add(which)
  }

  answered(at: number, which: number) {
    this.passes(at)
    this.waiting.delete(which)
    const line = this.lineOf(which)
    if (line !== undefined) this.lines.set(line, this.lines.get(line)?.filter((other) => other !== which) ?? [])
  }

  private lineOf(which: number) {
    const { line, user } = this.of(which)
    return line === undefined ? undefined : `${user} ${line}`
  }

  private of(which: number): Asked {
    const one = this.trace.asked[which]
    if (one === undefined) throw new Error(`there is no request ${which}`)
    return one
  }

  private isFirst(which: number) {
    const line = this.lineOf(which)
    return line === undefined || this.lines.get(line)?.[0] === which
  }

  private mayBePacked(which: number) {
    const { pack } = this.trace
    const { isRead, plain } = this.of(which)
    return plain && (pack === "all" || (pack === "reads" && isRead))
  }

  /** Calls for which the rate has room: a second's worth of the depth is left free, for it may fall in steps. */
  private room(at: number) {
    if (this.told === undefined) return Infinity
    const { rate, depth } = this.told
    const level = Math.max(0, this.level - ((at - this.at) * rate) / 1_000)
    return Math.floor(depth - Math.min(rate, depth / 2) - level + 1e-9)
  }

  /** How long one may wait for company: the less room is left, the longer, and no longer than the next call takes to come. */
  private patience(room: number) {
    return this.told === undefined ? 0 : (1 - room / this.told.depth) * (1_000 / this.told.rate)
  }

  /**
   * Something happens now. Until a moment ago nothing has changed since the last time but for what time brings, and that
   * lets more and more of them go: so whoever is still there and could have gone then has waited in vain.
   */
  private passes(at: number) {
    // The bridge counts whole milliseconds, and lets one pass where it waits.
    const moment = at - 2
    if (moment >= this.at) {
      const room = this.room(moment)
      if (room >= 1 && this.inFlight < this.trace.concurrency) this.finds(moment, room)
    }
    if (this.told !== undefined) this.level = Math.max(0, this.level - ((at - this.at) * this.told.rate) / 1_000)
    this.at = at
  }

  private finds(moment: number, room: number) {
    const ready = [...this.waiting].filter((which) => this.isFirst(which))
    // As long as it was when somebody has last looked, by a clock of whole milliseconds.
    const patience = this.patience(this.room(this.at - 1))
    const isAlone = ready.length === 1 && this.inFlight === 0 && patience <= 100
    for (const which of ready) {
      if (this.isExcused(this.of(which))) continue
      const since = this.since.get(which) ?? 0
      const { user } = this.of(which)
      const company = ready.filter((other) => this.of(other).user === user && this.mayBePacked(other)).length
      const mayGather = this.mayBePacked(which) && company < mostCommands && moment < since + patience && !isAlone
      if (!mayGather)
        this.idle.push(
          `${which} waits since ${since} at ${moment}, with room for ${room} and ${this.inFlight} in flight`
        )
    }
  }

  /** While calls are scarce none leaves with places that another could have taken. */
  private scatters(at: number, members: ReadonlyArray<number>) {
    const [first] = members
    if (first === undefined || this.told === undefined) return
    if (!this.mayBePacked(first) || members.length === mostCommands) return
    const { user } = this.of(first)
    const lines = new Set(members.map((which) => this.lineOf(which)))
    for (const which of this.waiting) {
      const line = this.lineOf(which)
      if (this.of(which).user !== user || !this.mayBePacked(which) || !this.isFirst(which)) continue
      if (line === undefined || !lines.has(line))
        this.scattered.push(`${members.join()} leave at ${at}, and ${which} does not`)
    }
  }
}

const takes = { "crm.deal.list": 5, "crm.item.list": 150, "crm.company.list": 900 }

const asked: fc.Arbitrary<Asked> = fc.record({
  gap: fc.oneof(
    { weight: 8, arbitrary: fc.constant(0) },
    { weight: 2, arbitrary: fc.integer({ min: 1, max: 300 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 8_000 }) }
  ),
  user: fc.constantFrom("1", "1", "1", "2", "3"),
  queue: fc.constantFrom("in", "in", "urgent"),
  method: fc.constantFrom(...Object.keys(takes)),
  isRead: fc.boolean(),
  plain: fc.oneof({ weight: 5, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  line: fc.option(fc.constantFrom("a", "b", "c", "d"), { nil: undefined, freq: 3 })
})

/** The portal's bucket: those of the plans, and smaller ones, for those are full sooner. */
const bucket = fc.oneof(
  fc.constantFrom({ burst: 50, fall: 2 }, { burst: 250, fall: 5 }),
  fc
    .record({ fall: fc.integer({ min: 1, max: 8 }), more: fc.integer({ min: 0, max: 20 }) })
    .map(({ fall, more }) => ({ fall, burst: 2 * fall + more }))
)

const traces = (asked: fc.Arbitrary<ReadonlyArray<Asked>>): fc.Arbitrary<Trace> =>
  fc
    .record({
      asked,
      bucket,
      pack: fc.constantFrom("reads" as const, "all" as const, "off" as const),
      concurrency: fc.integer({ min: 1, max: 16 }),
      way: fc.constantFrom(0, 3, 100),
      stepwise: fc.boolean(),
      countsRefused: fc.boolean(),
      phase: fc.integer({ min: 0, max: 999 })
    })
    .map((given) => Object.assign(given, { takes, rate: { rate: given.bucket.fall, depth: given.bucket.burst } }))

const run = (trace: Trace, watcher: Watcher) => Effect.runPromise(follow(trace, watcher))

test("no trace of arrivals makes more leave than the bucket takes, and none leaves room unused while one may go", () =>
  fc.assert(
    fc.asyncProperty(traces(fc.array(asked, { minLength: 1, maxLength: 150, size: "max" })), async (trace) => {
      const onlooker = new Onlooker(trace)
      const { calls, mostInFlight, tooMany } = await run(trace, onlooker)
      expect(tooMany).toEqual([])
      expect(onlooker.idle).toEqual([])
      expect(onlooker.scattered).toEqual([])
      expect(onlooker.overtaking).toEqual([])
      expect(mostInFlight).toBeLessThanOrEqual(trace.concurrency)
      const sent = calls.flatMap(({ members }) => members)
      expect(sent.toSorted((one, other) => one - other)).toEqual([...trace.asked.keys()])
    }),
    { numRuns: Number(process.env.RUNS ?? 60) }
  ))

/** All at once, each on its own, and quickly done. */
const backlog = fc.array(
  asked.map((one) => ({ ...one, gap: 0, line: undefined, method: "crm.deal.list" })),
  { minLength: 100, maxLength: 600, size: "max" }
)

/** The fewest calls that can carry a backlog. */
const fewestCalls = ({ asked, pack }: Trace) => {
  const packed = asked.filter(({ plain, isRead }) => plain && (pack === "all" || (pack === "reads" && isRead)))
  const full = Object.values(Object.groupBy(packed, ({ user }) => user)).map(
    (those) => (those?.length ?? 0) / mostCommands
  )
  return asked.length - packed.length + full.reduce((sum, batches) => sum + Math.ceil(batches), 0)
}

test("a backlog takes no call and no time more than it must", () =>
  fc.assert(
    fc.asyncProperty(traces(backlog), async (trace) => {
      const onlooker = new Onlooker(trace)
      const { calls, tooMany } = await run(trace, onlooker)
      expect(tooMany).toEqual([])
      expect(onlooker.idle).toEqual([])
      const fewest = fewestCalls(trace)
      expect(calls.length).toBe(fewest)
      const { burst, fall } = trace.bucket
      // A second's worth of the depth is left free, and the last may wait for company as long as for one call more.
      const byRate = Math.max(0, fewest - burst) / fall + 1 + 1 / fall
      const work = calls.reduce((sum, { members }) => sum + 2 * trace.way + members.length * 5, 0) / 1_000
      expect(Math.max(...calls.map(({ at }) => at)) / 1_000).toBeLessThanOrEqual(
        byRate + work / trace.concurrency + 0.5
      )
    }),
    { numRuns: Number(process.env.RUNS ?? 15) }
  ))

/** The most of these moments within a second. */
const mostAtOnce = (moments: ReadonlyArray<number>) =>
  Math.max(0, ...moments.map((at) => moments.filter((other) => other >= at && other < at + 1_000).length))

test("where nobody tells the rate, no lesson costs more refusals than calls may be in flight, and each is answered", () =>
  fc.assert(
    fc.asyncProperty(traces(fc.array(asked, { minLength: 50, maxLength: 200, size: "max" })), async (given) => {
      const trace: Trace = { ...given, rate: "auto" }
      const onlooker = new Onlooker(trace, () => true)
      const { answered, tooMany, mostInFlight } = await run(trace, onlooker)
      expect(mostAtOnce(tooMany)).toBeLessThanOrEqual(trace.concurrency)
      expect(mostInFlight).toBeLessThanOrEqual(trace.concurrency)
      expect(onlooker.overtaking).toEqual([])
      expect(answered.size).toBe(trace.asked.length)
    }),
    { numRuns: Number(process.env.RUNS ?? 30) }
  ))
