import { expect, test } from "bun:test"
import { Effect } from "effect"
import fc from "fast-check"
import { mostCommands } from "../../src/portal/batch.ts"
import { Onlooker } from "./onlooker.ts"
import { type Asked, follow, type Trace, type Watcher } from "./trace.ts"

const run = (trace: Trace, watcher: Watcher) => Effect.runPromise(follow(trace, watcher))

/** Milliseconds that each method takes. */
const costs = new Map([
  ["crm.deal.list", 5],
  ["crm.item.list", 150],
  ["crm.company.list", 900]
])
const takes = (method: string) => costs.get(method) ?? 0

const asked: fc.Arbitrary<Asked> = fc.record({
  gap: fc.oneof(
    { weight: 8, arbitrary: fc.constant(0) },
    { weight: 2, arbitrary: fc.integer({ min: 1, max: 300 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 8_000 }) }
  ),
  user: fc.constantFrom("1", "1", "1", "2", "3"),
  queue: fc.constantFrom("in", "in", "urgent"),
  method: fc.constantFrom(...costs.keys()),
  isRead: fc.boolean(),
  plain: fc.oneof({ weight: 5, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  line: fc.option(fc.constantFrom("a", "b", "c", "d"), { nil: undefined, freq: 3 })
})

const askedTimes = (least: number, most: number, one = asked) =>
  fc.array(one, { minLength: least, maxLength: most, size: "max" })

interface Rate {
  readonly rate: number
  readonly depth: number
}

/** Those of the plans, and smaller ones: their buckets are full sooner. */
const rates: fc.Arbitrary<Rate> = fc.oneof(
  fc.constantFrom({ rate: 2, depth: 50 }, { rate: 5, depth: 250 }),
  fc
    .record({ rate: fc.integer({ min: 1, max: 8 }), more: fc.integer({ min: 0, max: 20 }) })
    .map(({ rate, more }) => ({ rate, depth: 2 * rate + more }))
)

/** Traces of which the bridge is told the portal's rate. */
const traces = (asked: fc.Arbitrary<ReadonlyArray<Asked>>, rate = rates): fc.Arbitrary<Trace & { rate: Rate }> =>
  fc
    .record({
      asked,
      rate,
      pack: fc.constantFrom("reads" as const, "all" as const, "off" as const),
      concurrency: fc.integer({ min: 1, max: 16 }),
      way: fc.constantFrom(0, 3, 100),
      phase: fc.integer({ min: 0, max: 999 }),
      bucket: fc.record({ stepwise: fc.boolean(), countsRefused: fc.boolean() })
    })
    .map(({ bucket, ...told }) => {
      const { rate, depth } = told.rate
      // Of writes that may be packed few leave together until it is known how long they take: no such one is asked for.
      const asked = told.asked.map((one) => (told.pack === "all" ? Object.assign(one, { isRead: true }) : one))
      return Object.assign(told, { asked, takes, limits: { rate: { burst: depth, fall: rate, ...bucket } } })
    })

const lastOf = (moments: Iterable<number>) => Math.max(...moments) / 1_000

/** Seconds that so many calls can be busy with it. */
const workOf = ({ asked, concurrency, way }: Trace, calls: ReadonlyArray<{ members: ReadonlyArray<number> }>) => {
  const busy = calls.map(({ members }) =>
    members.reduce((sum, which) => sum + takes(asked[which]?.method ?? ""), 2 * way)
  )
  return busy.reduce((sum, one) => sum + one, 0) / 1_000 / concurrency
}

test("no trace of arrivals makes more leave than the bucket takes, and none leaves room unused while one may go", () =>
  fc.assert(
    fc.asyncProperty(traces(askedTimes(1, 150)), async (trace) => {
      const onlooker = new Onlooker(trace)
      const { calls, executed, mostInFlight, tooMany } = await run(trace, onlooker)
      expect(tooMany).toEqual([])
      expect(onlooker.idle).toEqual([])
      expect(onlooker.scattered).toEqual([])
      expect(onlooker.overtaking).toEqual([])
      expect(mostInFlight).toBeLessThanOrEqual(trace.concurrency)
      // Each once.
      expect(executed.toSorted((one, other) => one - other)).toEqual([...trace.asked.keys()])
      expect(calls.flatMap(({ members }) => members).length).toBe(executed.length)
    }),
    { numRuns: 40 }
  ))

const backlog = askedTimes(
  100,
  600,
  asked.map((one) => Object.assign(one, { gap: 0, line: undefined, method: "crm.deal.list" }))
)

/** The fewest calls that can carry it. */
const fewestFor = ({ asked, pack }: Trace) => {
  const packed = asked.filter(({ plain, isRead }) => plain && (pack === "all" || (pack === "reads" && isRead)))
  const batches = Object.values(Object.groupBy(packed, ({ user }) => user)).map((those = []) =>
    Math.ceil(those.length / mostCommands)
  )
  return batches.reduce((sum, one) => sum + one, asked.length - packed.length)
}

/** Calls with writes that left before any request of their user was answered: few travel together until then. */
const daringOf = ({ asked }: Trace, { answered, calls }: Awaited<ReturnType<typeof run>>) =>
  calls.filter(({ at, members }) =>
    members.some((which) => {
      const { isRead, user } = asked[which] ?? {}
      const known = asked.flatMap((one, other) => (one.user === user ? [answered.get(other) ?? Infinity] : []))
      return isRead === false && at <= Math.min(...known)
    })
  ).length

test("a backlog takes no more calls than it must, and hardly more time", () =>
  fc.assert(
    fc.asyncProperty(traces(backlog), async (trace) => {
      const onlooker = new Onlooker(trace)
      const record = await run(trace, onlooker)
      const { calls, tooMany } = record
      expect(tooMany).toEqual([])
      expect(onlooker.idle).toEqual([])
      const fewest = fewestFor(trace)
      expect(calls.length).toBeGreaterThanOrEqual(fewest)
      expect(calls.length - fewest).toBeLessThanOrEqual(trace.pack === "all" ? daringOf(trace, record) : 0)
      const { rate, depth } = trace.rate
      // A second's worth of the depth is left free, and the last may wait for company as long as for one call more.
      const byRate = Math.max(0, calls.length - depth) / rate + 1 + 1 / rate
      expect(lastOf(calls.map(({ at }) => at))).toBeLessThanOrEqual(byRate + workOf(trace, calls) + 0.5)
    }),
    { numRuns: 10, endOnFailure: true }
  ))

/** The most of these moments within a second. */
const mostAtOnce = (moments: ReadonlyArray<number>) =>
  Math.max(0, ...moments.map((at) => moments.filter((other) => other >= at && other < at + 1_000).length))

test("where nobody tells the rate, no lesson costs more refusals than calls may be in flight, and each is answered", () =>
  fc.assert(
    fc.asyncProperty(traces(askedTimes(50, 200)), async (told) => {
      const trace: Trace = { ...told, rate: "auto" }
      const onlooker = new Onlooker(trace)
      const { answered, tooMany, mostInFlight } = await run(trace, onlooker)
      expect(mostAtOnce(tooMany)).toBeLessThanOrEqual(trace.concurrency)
      expect(mostInFlight).toBeLessThanOrEqual(trace.concurrency)
      expect(onlooker.overtaking).toEqual([])
      expect(answered.size).toBe(trace.asked.length)
    }),
    { numRuns: 20 }
  ))

/** An operating limit that bites, and a rate that does not. */
const heavyTraces = fc
  .record({
    trace: traces(askedTimes(100, 240), fc.constant({ rate: 5, depth: 250 })),
    bucket: fc.integer({ min: 1_000, max: 5_000 }),
    /** Seconds that may be worked in one second. */
    part: fc.double({ min: 0.3, max: 1.5, noNaN: true }),
    payer: fc.constantFrom("methods" as const, "batch" as const)
  })
  .map(({ trace, bucket, part, payer }) => {
    const span = bucket / 100
    const limit = Math.ceil(part * span)
    const asked = trace.asked.map((one) => ({ ...one, gap: Math.min(one.gap, 100), line: undefined }))
    const limits = { ...trace.limits, operating: { limit, bucket, payer } }
    return Object.assign(trace, { asked, span, limit, payer, limits })
  })

/** Shorter ones are not counted. */
const isCharged = ({ method }: Asked) => takes(method) > 100

test("an operating limit holds nobody but whom it concerns, is hardly run into, and is used", () =>
  fc.assert(
    fc.asyncProperty(heavyTraces, async (trace) => {
      const { asked, limit, payer, span } = trace
      const onlooker = new Onlooker(trace, (one) => payer === "batch" || isCharged(one))
      const { answered, calls, tooLong, tooMany } = await run(trace, onlooker)
      expect(tooMany).toEqual([])
      expect(onlooker.idle).toEqual([])
      const end = lastOf(answered.values())
      const dues = Object.values(
        Object.groupBy(asked, ({ user, method }) => (payer === "batch" ? user : `${user} ${method}`))
      ).map((those = []) => those.reduce((sum, { method }) => sum + takes(method), 0) / 1_000)
      // What leaves before the first answers may be too much. From then on the limit of each who pays is tried once in a
      // span, by one call.
      const late = tooLong.filter((at) => at > (tooLong[0] ?? 0) + 1.5 * span * 1_000)
      expect(late.length).toBeLessThanOrEqual(dues.length * (1 + end / span))
      const came = asked.reduce((sum, { gap }) => sum + gap, 0) / 1_000
      const least = Math.max(workOf(trace, calls), (Math.max(...dues) / limit) * span)
      expect(end - came).toBeLessThanOrEqual(1.1 * least + span)
    }),
    { numRuns: 20, endOnFailure: true }
  ))
