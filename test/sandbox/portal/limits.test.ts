import { expect, test } from "bun:test"
import { Effect } from "effect"
import * as fc from "fast-check"
import type { Credential } from "../../../src/sandbox/portal/credentials.ts"
import {
  limitsOf,
  OperatingSums,
  RateBuckets,
  type OperatingLimit,
  type RateLimit
} from "../../../src/sandbox/portal/limits.ts"
import { openPortal, type Portal } from "../../../src/sandbox/portal/server.ts"
import { live } from "../../effect.ts"
import { call, callThird, over, post, request, result, said } from "./client.ts"

const portal = <E>(name: string, body: (portal: Portal) => Effect.Effect<unknown, E>) =>
  live(name, () => Effect.flatMap(openPortal(), body))

// --- How often

const cloud = limitsOf("cloud").rate as RateLimit
const admitted = (rule: RateLimit, times: ReadonlyArray<number>): ReadonlyArray<boolean> => {
  const buckets = new RateBuckets(rule)
  return times.map((at) => buckets.admits("a", at))
}
const count = (all: ReadonlyArray<boolean>): number => all.filter(Boolean).length

test("the presets are those of the vendor's page", () => {
  expect(limitsOf("cloud")).toMatchObject({
    rate: { burst: 50, fall: 2, period: 1000 },
    operating: { state: "on", limit: 480 }
  })
  expect(limitsOf("enterprise")).toMatchObject({ rate: { burst: 250, fall: 5 } })
  expect(limitsOf("box")).toMatchObject({ rate: undefined, operating: { state: "off", limit: 420 } })
})

test("fifty at once are let in, then two a second, in steps or evenly", () => {
  const burst = Array.from({ length: 60 }, () => 1000)
  for (const stepwise of [true, false]) expect(count(admitted({ ...cloud, stepwise }, burst))).toBe(50)
  const later = [...burst, 1499, 1500, 1999, 2000, 2000, 2000]
  expect(admitted(cloud, later).slice(60)).toEqual([false, false, false, true, true, false])
  expect(admitted({ ...cloud, stepwise: false }, later).slice(60)).toEqual([false, true, false, true, false, false])
})

test("refused requests fill the bucket only where they are told to", () => {
  const times = [...Array.from({ length: 60 }, () => 0), 1000, 1000, 7000]
  expect(admitted(cloud, times).slice(60)).toEqual([true, true, true])
  expect(admitted({ ...cloud, countsRefused: true }, times).slice(60)).toEqual([false, false, true])
})

test("each address has its bucket, and a box has none", () => {
  const buckets = new RateBuckets({ ...cloud, burst: 1 })
  expect([buckets.admits("a", 0), buckets.admits("a", 0), buckets.admits("b", 0)]).toEqual([true, false, true])
  const none = new RateBuckets(undefined)
  expect(Array.from({ length: 1000 }, () => none.admits("a", 0)).every(Boolean)).toBe(true)
})

const gaps = fc.array(fc.nat({ max: 1500 }), { maxLength: 400, size: "max" })
const rule = fc.record({
  burst: fc.integer({ min: 1, max: 20 }),
  // Divisors of the period, so that the pace of the leak is a whole number of milliseconds.
  fall: fc.constantFrom(1, 2, 4, 5),
  period: fc.constantFrom(100, 1000),
  stepwise: fc.boolean(),
  countsRefused: fc.boolean()
})

test("whatever comes, never more are let in than the burst and what leaked out", () => {
  fc.assert(
    fc.property(rule, gaps, (rule, gaps) => {
      let at = 0
      const times = gaps.map((gap) => (at += gap % 3 === 0 ? 0 : gap))
      const all = admitted(rule, times)
      for (let from = 0; from < times.length; from += 7) {
        for (let to = from; to < times.length; to += 5) {
          const span = (times[to] ?? 0) - (times[from] ?? 0)
          // A step may fall at each end of the span, hence one more.
          const most = rule.burst + rule.fall * (span / rule.period + 1)
          expect(count(all.slice(from, to + 1))).toBeLessThanOrEqual(most)
        }
      }
    })
  )
})

test("who keeps to the rate of the leak is never refused", () => {
  fc.assert(
    fc.property(rule, fc.integer({ min: 1, max: 300 }), (rule, calls) => {
      fc.pre(rule.burst >= rule.fall)
      const pace = rule.period / rule.fall
      expect(
        count(
          admitted(
            rule,
            Array.from({ length: calls }, (_, at) => at * pace)
          )
        )
      ).toBe(calls)
    })
  )
})

// --- How long

const who: Credential = { kind: "webhook", user: "1", secret: "s" }
const operatingRule = (more: Partial<OperatingLimit> = {}): OperatingLimit =>
  limitsOf({ preset: "cloud", operating: { limit: 10, bucket: 60_000, ...more } }).operating
const spend = (sums: OperatingSums, method: string, seconds: number, at: number, by: Credential = who): void => {
  const ledger = new Map<string, number>()
  sums.note(ledger, method, seconds)
  sums.book(by, ledger, at)
}
const blocks = (sums: OperatingSums, method: string, at: number, by: Credential = who): boolean =>
  sums.blocks(by, method, new Map(), at)

test("a method is blocked when its sum is greater than the limit, and nobody else is", () => {
  const sums = new OperatingSums(operatingRule())
  spend(sums, "a", 10, 0)
  expect(blocks(sums, "a", 1)).toBe(false)
  spend(sums, "a", 0.2, 1)
  expect(blocks(sums, "a", 2)).toBe(true)
  expect([blocks(sums, "b", 2), blocks(sums, "a", 2, { ...who, secret: "t" })]).toEqual([false, false])
})

test("the sum falls bucket by bucket, and the block with it", () => {
  const sums = new OperatingSums(operatingRule())
  spend(sums, "a", 6, 30_000)
  spend(sums, "a", 6, 90_000)
  expect(sums.operating(who, "a", new Map(), 100_000)).toEqual({ sum: 12, resetAt: 630 })
  expect([blocks(sums, "a", 599_999), blocks(sums, "a", 600_000)]).toEqual([true, false])
  expect(sums.operating(who, "a", new Map(), 600_000)).toEqual({ sum: 6, resetAt: 690 })
  expect(sums.operating(who, "a", new Map(), 660_000)).toEqual({ sum: 0, resetAt: 1260 })
})

test("or it ends after a fixed time", () => {
  const sums = new OperatingSums(operatingRule({ ban: 900_000 }))
  spend(sums, "a", 11, 30_000)
  expect([blocks(sums, "a", 31_000), blocks(sums, "a", 929_999), blocks(sums, "a", 930_000)]).toEqual([
    true,
    true,
    false
  ])
})

test("what took a tenth of a second or less within a request does not count", () => {
  const sums = new OperatingSums(operatingRule())
  spend(sums, "a", 0.1, 0)
  expect(sums.operating(who, "a", new Map(), 0)?.sum).toBe(0)
  const ledger = new Map<string, number>()
  for (let at = 0; at < 3; at++) sums.note(ledger, "a", 0.04)
  expect(sums.operating(who, "a", ledger, 0)?.sum).toBeCloseTo(0.12)
})

test("without a store sums live inside one request, and with the limiter off there are none", () => {
  const unstored = new OperatingSums(operatingRule({ state: "unstored" }))
  spend(unstored, "a", 11, 0)
  expect([blocks(unstored, "a", 1), unstored.operating(who, "a", new Map(), 1)?.sum]).toEqual([false, 0])
  const ledger = new Map([["a", 11]])
  expect(unstored.blocks(who, "a", ledger, 1)).toBe(true)
  const off = new OperatingSums(operatingRule({ state: "off" }))
  expect([off.blocks(who, "a", ledger, 1), off.operating(who, "a", ledger, 1)]).toEqual([false, undefined])
})

test("the sum is always that of the last ten buckets", () => {
  const steps = fc.array(fc.record({ gap: fc.nat({ max: 90_000 }), seconds: fc.integer({ min: 1, max: 50 }) }), {
    maxLength: 60,
    size: "max"
  })
  fc.assert(
    fc.property(steps, (steps) => {
      const sums = new OperatingSums(operatingRule())
      const spent: Array<{ readonly at: number; readonly seconds: number }> = []
      let at = 0
      for (const { gap, seconds } of steps) {
        at += gap
        spend(sums, "a", seconds, at)
        spent.push({ at, seconds })
        const oldest = Math.floor(at / 60_000) - 9
        const kept = spent.filter((one) => Math.floor(one.at / 60_000) >= oldest)
        expect(sums.operating(who, "a", new Map(), at)).toEqual({
          sum: kept.reduce((sum, one) => sum + one.seconds, 0),
          resetAt: Math.floor(((kept[0]?.at ?? 0) + 600_000) / 1000)
        })
      }
    })
  )
})

// --- Over HTTP

portal("a burst over HTTP: what is refused never reaches a method", (portal) =>
  Effect.gen(function* () {
    portal.limit({ preset: "cloud", rate: { fall: 0 } })
    const calls = yield* Effect.all(
      Array.from({ length: 70 }, () => call(portal, "crm.deal.add", { fields: { TITLE: "t" } })),
      { concurrency: 20 }
    )
    expect(calls.filter(({ status }) => status === 200)).toHaveLength(50)
    expect(calls.filter(({ status }) => status === 503)).toHaveLength(20)
    expect([portal.count("crm.deal.add"), portal.refusals.get("QUERY_LIMIT_EXCEEDED")]).toEqual([50, 20])
    // A batch is one request, whatever it holds, and an unknown method is one as well.
    portal.limit({ rate: { burst: 2, fall: 0 } })
    const cmd = Array.from({ length: 50 }, () => "server.time")
    expect((yield* call(portal, "batch", { cmd })).status).toBe(200)
    expect((yield* call(portal, "no.such")).status).toBe(404)
    expect((yield* call(portal, "no.such")).status).toBe(503)
  })
)

const times = (answered: unknown) =>
  (answered as { readonly result_time: Readonly<Record<string, Readonly<Record<string, unknown>>>> }).result_time

portal("the methods of a batch pay for themselves, and are blocked one by one", (portal) =>
  Effect.gen(function* () {
    portal.limit({ operating: { limit: 10, cost: { "server.time": 6 } } })
    const cmd = { a: "server.time", b: "server.time", c: "server.time", d: "scope" }
    const first = result(yield* call(portal, "batch", { cmd }))
    expect(first).toMatchObject({
      result_error: { c: { error: "OPERATION_TIME_LIMIT" } },
      result_time: { a: { operating: expect.any(Number) }, d: { operating: 0 } }
    })
    expect(Math.floor(Number(times(first)["b"]?.["operating"]))).toBe(12)
    const second = yield* call(portal, "batch", { cmd })
    expect(result(second)).toMatchObject({
      result: { d: expect.any(Array) },
      result_error: { a: {}, b: {}, c: {} }
    })
    expect(second.json).toMatchObject({ time: { operating: 0 } })
    expect(said(yield* call(portal, "server.time"))).toMatchObject([429, { error: "OPERATION_TIME_LIMIT" }])
    expect((yield* post(`${portal.webhook(1, "other")}server.time`, {})).status).toBe(200)
  })
)

portal("or the batch pays as a whole, and all of its results show what it had paid before", (portal) =>
  Effect.gen(function* () {
    portal.limit({ operating: { limit: 10, payer: "batch", cost: { batch: 6, "server.time": 100 } } })
    const cmd = { a: "server.time", b: "server.time" }
    const send = call(portal, "batch", { cmd })
    expect(result(yield* send)).toMatchObject({
      result_error: [],
      result_time: { a: { operating: 0 }, b: { operating: 0 } }
    })
    const second = yield* send
    expect(Math.floor(Number(times(result(second))["b"]?.["operating"]))).toBe(6)
    expect(second.json).toMatchObject({ time: { operating: expect.any(Number) } })
    expect(said(yield* send)).toMatchObject([429, { error: "OPERATION_TIME_LIMIT" }])
    expect((yield* call(portal, "server.time")).status).toBe(200)
  })
)

portal("windows can be made small enough to be waited for", (portal) =>
  Effect.gen(function* () {
    portal.limit({ operating: { limit: 1, bucket: 10, cost: { "server.time": 2 } } })
    expect((yield* call(portal, "server.time")).status).toBe(200)
    expect((yield* call(portal, "server.time")).status).toBe(429)
    yield* Effect.repeat(call(portal, "server.time"), { until: ({ status }) => status === 200 })
  })
)

const rawBatch = (portal: Portal, cmd: ReadonlyArray<string>) =>
  over(portal.port, request("/rest/1/sandbox/batch", JSON.stringify({ cmd })), (text) => text.includes("</html>"))

portal("a request that is cut at its time has done a prefix of its batch", (portal) =>
  Effect.gen(function* () {
    portal.latency({ "crm.deal.add": 30 })
    const cmd = Array.from({ length: 10 }, (_, at) => `crm.deal.add?fields[TITLE]=${at}`)
    for (const [answer, seen] of [
      ["html", "504 Gateway Time-out"],
      ["close", ""],
      ["reset", ""]
    ] as const) {
      portal.reset()
      portal.latency({ "crm.deal.add": 30 })
      portal.limit({ time: { after: 80, answer } })
      const { text, end } = yield* rawBatch(portal, cmd)
      expect(text).toContain(seen)
      expect(end).toBe(answer === "html" ? "open" : answer === "close" ? "end" : "ECONNRESET")
      const done = portal.count("crm.deal.add")
      expect([done >= 1, done <= 3]).toEqual([true, true])
      expect(portal.executions.map(({ key }) => key)).toEqual(["0", "1", "2"].slice(0, done))
      // Nor is the command done later that was running when the time was up: a call that begins now would end after it.
      yield* call(portal, "crm.deal.add", { fields: { TITLE: "x" } })
      expect(portal.count("crm.deal.add")).toBe(done + 1)
    }
  })
)

portal("a batch of the third version is cut as well", (portal) =>
  Effect.gen(function* () {
    portal.latency({ "tasks.task.add": 30 })
    portal.limit({ time: { after: 50 } })
    const add = { method: "tasks.task.add", query: { fields: { title: "t" } } }
    expect((yield* callThird(portal, "batch", [add, add, add])).status).toBe(504)
    yield* callThird(portal, "tasks.task.add", { fields: { title: "x" } })
    expect(portal.count("tasks.task.add")).toBe(2)
  })
)

portal("so is a method that takes its own time", (portal) =>
  Effect.gen(function* () {
    portal.limit({ time: { after: 20 } })
    expect((yield* call(portal, "sandbox.wait", { seconds: 0.04 })).status).toBe(504)
    portal.limit("box")
    yield* call(portal, "sandbox.wait", { seconds: 0.04 })
    expect([portal.count("sandbox.wait"), portal.refusals.size]).toEqual([1, 0])
  })
)

portal("or it goes on where nobody sees it", (portal) =>
  Effect.gen(function* () {
    portal.latency({ "crm.deal.add": 20 })
    portal.limit({ time: { after: 30, goesOn: true } })
    const { text } = yield* rawBatch(
      portal,
      Array.from({ length: 3 }, () => "crm.deal.add?fields[TITLE]=a")
    )
    expect(text).toContain("504 Gateway Time-out")
    yield* portal.until(({ count }) => count("crm.deal.add") === 3)
  })
)
