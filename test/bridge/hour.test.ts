import { expect, test } from "bun:test"
import fc from "fast-check"
import { Hour, stepOf } from "../../src/bridge/hour.ts"

test("an hour knows how much was answered when, and how long it took", () => {
  const hour = new Hour()
  const start = 1_000 * stepOf
  expect(hour.sum(start, 60_000)).toEqual({ answers: 0, refused: 0, half: undefined, most: undefined })
  expect(hour.points(start)).toEqual([])
  for (let n = 0; n < 100; n++) hour.add(start + n, n < 60 ? 10 : 1_000, n % 4 === 0)
  hour.add(start + 3 * stepOf, 50, false)
  const now = start + 3 * stepOf + 1
  expect(hour.sum(now, stepOf)).toMatchObject({ answers: 1, refused: 0 })
  const { half, most, ...counts } = hour.sum(now, 60_000)
  expect(counts).toEqual({ answers: 101, refused: 25 })
  expect(half).toBeWithin(9, 12)
  expect(most).toBeWithin(875, 1_125)
  // Steps that are over, from the first with an answer; quiet ones in between are there, too.
  expect(hour.points(now).map(({ at, sum }) => [at - start, sum.answers])).toEqual([
    [0, 100],
    [stepOf, 0],
    [2 * stepOf, 0]
  ])
  // An hour later it is forgotten.
  expect(hour.sum(start + 3_700_000, 3_600_000)).toMatchObject({ answers: 0 })
  expect(hour.all(start + 3_700_000)).toMatchObject({ answers: 0 })
})

test("whatever comes when, sums are those of a list, and quantiles are right to an eighth", () => {
  const come = fc.record({
    after: fc.nat(400_000),
    latency: fc.oneof(fc.nat(10), fc.nat(2_000), fc.nat(1_500_000)),
    refused: fc.boolean()
  })
  fc.assert(
    fc.property(fc.array(come, { minLength: 1, maxLength: 60 }), fc.integer({ min: 1, max: 700 }), (list, span) => {
      const hour = new Hour()
      let now = 5_000_000
      const all = list.map(({ after, latency, refused }) => {
        now += after
        hour.add(now, latency, refused)
        return { step: Math.floor(now / stepOf), latency, refused }
      })
      const last = Math.floor(now / stepOf)
      const within = all.filter(({ step }) => step > last - span)
      const { answers, refused, half, most } = hour.sum(now, span * stepOf)
      expect([answers, refused]).toEqual([within.length, within.filter((one) => one.refused).length])
      const sorted = within.map(({ latency }) => latency).toSorted((a, b) => a - b)
      for (const [part, told] of [
        [0.5, half],
        [0.95, most]
      ] as const) {
        const right = sorted[Math.ceil(sorted.length * part) - 1] ?? 0
        expect(Math.abs((told ?? -1) - right)).toBeLessThanOrEqual(0.5 + right / 7)
      }
    })
  )
})
