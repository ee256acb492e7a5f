import { expect, test } from "bun:test"
import { allowance, exceeded, nothingUsed, spent } from "../../src/portal/operating.ts"

const method = "1#ab crm.deal.list"
const answer = (sum: number, resetIn: number | undefined, took = 2) => ({ sum, resetIn, took })

test("a method of which nothing is known may be called as often as one likes", () => {
  expect(allowance(nothingUsed, 0, method, 100).calls).toBe(Infinity)
  expect(allowance(spent(nothingUsed, 0, method, answer(400, 300)), 0, method, 100).calls).toBe(Infinity)
})

test("a closed method waits for the reset that was told, and a second more, by no clock but the time that passes", () => {
  const closed = exceeded(spent(nothingUsed, 1_000, method, answer(480, 30)), 2_000, method)
  expect(allowance(closed, 31_999, method, 0)).toEqual({ calls: 0, until: 32_000 })
  expect(allowance(closed, 32_000, method, 0).calls).toBe(1)
  expect(allowance(closed, 2_000, "1#ab user.get", 0).calls).toBe(Infinity)
})

test("closed again after its reset, it waits for one bucket more, a tenth of the farthest reset that was told", () => {
  const known = spent(spent(nothingUsed, 0, method, answer(10, 30)), 20_000, method, answer(66, 5))
  const closed = exceeded(known, 40_000, method)
  expect(allowance(closed, 40_000, method, 0)).toEqual({ calls: 0, until: 43_000 })
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

test("near the sum at which it was closed once, only as many calls go as fit", () => {
  const closed = exceeded(spent(nothingUsed, 0, method, answer(100, 10)), 0, method)
  const later = spent(closed, 20_000, method, answer(80, 30))
  // 98 % of 100 less 80, at 2 a call.
  expect(allowance(later, 20_000, method, 0).calls).toBe(9)
  expect(allowance(later, 20_000, method, 7).calls).toBe(2)
  expect(allowance(later, 20_000, method, 9)).toEqual({ calls: 0, until: 50_000 })
  // After the reset one call asks how far the sum has fallen.
  expect(allowance(later, 50_000, method, 0).calls).toBe(1)
  expect(allowance(later, 50_000, method, 1).calls).toBe(0)
})

test("a sum above the limit that was not refused raises the limit", () => {
  const closed = exceeded(spent(nothingUsed, 0, method, answer(100, 10)), 0, method)
  const higher = spent(spent(closed, 20_000, method, answer(150, 30)), 21_000, method, answer(152, 30))
  expect(higher.limit).toBe(150)
})
