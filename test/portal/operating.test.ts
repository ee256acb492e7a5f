import { expect, test } from "bun:test"
import {
  allowance,
  costOf,
  exceeded,
  flowOf,
  longestOf,
  nothingUsed,
  pays,
  ran,
  shareOf,
  spent,
  usesOf
} from "../../src/portal/operating.ts"

const method = "1#ab crm.deal.list"
const answer = (sum: number, resetIn: number | undefined, took = 2) => ({ sum, resetIn, took })

test("a method of which nothing is known, or that was never charged, may be called as often as one likes", () => {
  expect(allowance(nothingUsed, 0, method, 100).seconds).toBe(Infinity)
  expect(allowance(spent(nothingUsed, 0, method, answer(0, 600)), 0, method, 10_000).seconds).toBe(Infinity)
})

test("a closed method waits for the reset that was told, and a second more, by no clock but the time that passes", () => {
  const closed = exceeded(spent(nothingUsed, 1_000, method, answer(480, 30)), 2_000, method)
  expect(allowance(closed, 31_999, method, 0)).toEqual({ seconds: 0, until: 32_000 })
  // One call.
  expect(allowance(closed, 32_000, method, 0).seconds).toBe(2)
  expect(allowance(closed, 2_000, "1#ab user.get", 0).seconds).toBe(Infinity)
})

test("closed again after its reset, it waits for one bucket more, a tenth of the farthest reset that was told", () => {
  const known = spent(spent(nothingUsed, 0, method, answer(10, 30)), 20_000, method, answer(66, 5))
  const closed = exceeded(known, 40_000, method)
  expect(allowance(closed, 40_000, method, 0)).toEqual({ seconds: 0, until: 43_000 })
})

test("closed without a word of its time, it waits longer each time, for a minute at most", () => {
  let closed = nothingUsed
  let now = 1_000
  const waits: Array<number> = []
  while (waits.length < 8) {
    closed = exceeded(exceeded(closed, now, method), now + 1, method)
    const { until = 0 } = allowance(closed, now, method, 0)
    waits.push((until - now) / 1_000)
    now = until
  }
  expect(waits).toEqual([2, 4, 8, 16, 32, 60, 60, 60])
})

test("near the sum at which it was closed once, only as much goes as fits", () => {
  const closed = exceeded(spent(nothingUsed, 0, method, answer(100, 10)), 0, method)
  const later = spent(closed, 20_000, method, answer(80, 30))
  // 98 % of 100 less 80, at 2 a call.
  expect(allowance(later, 20_000, method, 0).seconds).toBe(18)
  expect(allowance(later, 20_000, method, 14).seconds).toBe(4)
  expect(allowance(later, 20_000, method, 17)).toEqual({ seconds: 0, until: 50_000 })
  // After the reset one call asks how far the sum has fallen, unless there was time without that.
  const full = spent(closed, 20_000, method, answer(97, 30))
  expect(allowance(full, 50_000, method, 0).seconds).toBe(2)
  expect(allowance(full, 50_000, method, 2).seconds).toBe(0)
  expect(allowance(later, 50_000, method, 0).seconds).toBe(18)
})

test("before any limit is known, what goes beyond 0.8 s in a second of the window is little beside what was seen", () => {
  const used = (sum: number) => spent(nothingUsed, 0, method, answer(sum, 600))
  expect(allowance(used(100), 0, method, 0).seconds).toBe(380)
  expect(allowance(used(600), 0, method, 0).seconds).toBeCloseTo(12)
  // One at a time where that is less than one call: its answer shows whether there is more.
  expect(allowance(used(600), 0, method, 11)).toEqual({ seconds: 0, until: undefined })
  const slow = spent(nothingUsed, 0, method, answer(600, 600, 50))
  expect(allowance(slow, 0, method, 0)).toEqual({ seconds: 50, until: undefined })
})

test("a limit that was not met for a whole span is tried by one call at a time", () => {
  const closed = exceeded(spent(nothingUsed, 0, method, answer(100, 30)), 0, method)
  const full = (now: number) => spent(closed, now, method, answer(99, 30))
  expect(allowance(full(31_000), 31_000, method, 0)).toEqual({ seconds: 2, until: undefined })
  expect(allowance(full(31_000), 31_000, method, 2)).toEqual({ seconds: 0, until: undefined })
  const again = exceeded(full(31_000), 31_000, method)
  expect(allowance(spent(again, 62_000, method, answer(99, 30)), 62_000, method, 0).seconds).toBe(2)
  expect(allowance(spent(again, 60_999, method, answer(99, 30)), 60_999, method, 0).seconds).toBe(0)
})

test("a sum above the limit at which one was not refused raises the limit, unless others were just refused", () => {
  const closed = exceeded(spent(nothingUsed, 0, method, answer(100, 30)), 0, method)
  expect(spent(closed, 29_000, method, answer(150, 30)).limit).toBe(100)
  expect(spent(closed, 30_000, method, answer(101, 30)).limit).toBe(100)
  expect(spent(closed, 30_000, method, answer(150, 30)).limit).toBe(148)
})

test("where batch pays, its members teach what they take, and nothing of a sum", () => {
  const batch = "1#ab batch"
  const free = spent(nothingUsed, 0, batch, answer(0, 600))
  expect(pays(free, batch)).toBe(false)
  const paid = spent(nothingUsed, 0, batch, answer(470, 600))
  expect(pays(paid, batch)).toBe(true)
  const known = ran(paid, 0, method, answer(470, 600, 0.5))
  expect(costOf(known, method)).toBe(0.5)
  expect(allowance(known, 0, method, 1_000).seconds).toBe(Infinity)
})

test("each call gets such a share that the time lasts as long as the rate lets them go", () => {
  expect(shareOf(nothingUsed, 2)).toBe(Infinity)
  const used = spent(nothingUsed, 0, method, answer(100, 600))
  expect(shareOf(used, 2)).toBeCloseTo(0.4)
  expect(shareOf(used, Infinity)).toBe(Infinity)
  expect(shareOf(exceeded(used, 0, method), 2)).toBeCloseTo(98 / 1_200)
})

test("a batch is short beside a bucket, or three times its share where that is more", () => {
  expect(longestOf(nothingUsed, 2)).toBe(Infinity)
  const used = (window: number) => spent(nothingUsed, 0, method, answer(100, window))
  expect(longestOf(used(600), 2)).toBe(20)
  expect(longestOf(used(30), 0.5)).toBeCloseTo(4.8)
  expect(longestOf(used(600), Infinity)).toBe(Infinity)
})

test("what comes free of a method's time is told on average over the span, and nothing of one that is not charged", () => {
  expect(flowOf(nothingUsed, 0, method)).toBeUndefined()
  expect(flowOf(spent(nothingUsed, 0, method, answer(0, 600)), 0, method)).toBeUndefined()
  const used = spent(nothingUsed, 0, method, answer(380, 600))
  // 480 s in ten minutes is what is believed to be allowed.
  expect(flowOf(used, 0, method)).toEqual({ seconds: 100, perSecond: 0.8, until: undefined })
  const closed = exceeded(spent(nothingUsed, 0, method, answer(480, 600)), 0, method)
  expect(flowOf(closed, 0, method)).toMatchObject({ seconds: 0, until: 601_000 })
})

test("the methods whose time is counted are told with what they have used and until when they are closed", () => {
  const other = "1#ab user.get"
  let operating = spent(nothingUsed, 0, method, answer(480, 30))
  operating = spent(operating, 0, other, answer(0, 30))
  operating = exceeded(operating, 0, method)
  expect(usesOf(operating, 1_000)).toEqual([
    { method, sum: 480, allowed: 480 * 0.98, cost: 2, resetAt: 30_000, until: 31_000 }
  ])
})
