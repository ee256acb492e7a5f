import { expect, test } from "bun:test"
import fc from "fast-check"
import { type Play, play } from "./play.ts"

const heavy = "crm.item.list"
const light = "crm.deal.list"

/** The experiment `operating` of bench/limits.ts, on a clock that only counts. */
const shrunk = { takes: { [heavy]: 111, [light]: 2.5 }, limit: 66, bucket: 3_000, burst: 10, fall: 3 }

const interleaved = (count: number) => Array.from({ length: count }, () => [heavy, light]).flat()

const lastOf = ({ last }: ReturnType<typeof play>, method: string) => (last.get(method) ?? Infinity) / 1_000

for (const payer of ["methods", "batch"] as const) {
  test(`light requests hardly wait for heavy ones, where ${payer === "batch" ? "batch pays" : "the methods pay"}`, () => {
    const alone = play({ ...shrunk, payer, queue: Array.from({ length: 5_000 }, () => light) })
    const both = play({ ...shrunk, payer, queue: interleaved(5_000) })
    expect(lastOf(both, light) / lastOf(alone, light)).toBeLessThan(payer === "methods" ? 1.2 : 1.5)
    expect(lastOf(both, heavy) / 240).toBeLessThan(1.15)
    expect(both.tooLong.length).toBeLessThan(30)
    expect(both.tooMany).toEqual([])
    // Calls are scarce: none is spent on one request while there is a batch to wait for.
    expect(both.calls.filter(({ at, members }) => at < 20_000 && members.length === 1)).toEqual([])
  })
}

test("where light ones wait, a call takes of the heavy ones their share, and the rest of them where none do", () => {
  const { calls } = play({ ...shrunk, payer: "methods", queue: interleaved(2_000) })
  const heavyIn = (members: ReadonlyArray<string>) => members.filter((method) => method === heavy).length
  // The first answers come after three seconds.
  const later = calls.filter(({ at, members }) => at > 3_000 && members.includes(light))
  expect(later.slice(0, -1).every(({ members }) => members.length === 50 && heavyIn(members) <= 2)).toBe(true)
  expect(later.length).toBeGreaterThan(20)
  const last = calls.slice(calls.findLastIndex(({ members }) => members.includes(light)) + 1)
  expect(Math.max(...last.map(({ members }) => heavyIn(members)))).toBeGreaterThan(8)
})

const plays: fc.Arbitrary<Play> = fc
  .record({
    bucket: fc.integer({ min: 3_000, max: 20_000 }),
    fall: fc.integer({ min: 1, max: 5 }),
    depth: fc.integer({ min: 4, max: 50 }),
    /** Seconds that may be worked in one second. */
    limit: fc.double({ min: 0.4, max: 2, noNaN: true }),
    heavy: fc.integer({ min: 50, max: 500 }),
    light: fc.integer({ min: 1, max: 10 }),
    payer: fc.constantFrom("methods", "batch"),
    queue: fc.array(fc.constantFrom(heavy, light), { minLength: 200, maxLength: 1_500, size: "max" })
  })
  .map((given) => ({
    queue: given.queue,
    takes: { [heavy]: given.heavy, [light]: given.light },
    payer: given.payer,
    limit: Math.ceil((given.limit * given.bucket) / 100),
    bucket: given.bucket,
    burst: given.fall + given.depth,
    fall: given.fall
  }))

test("no trace makes more leave than the budgets allow, and none leaves them unused while one may go", () => {
  let refused = 0
  fc.assert(
    fc.property(plays, (options) => {
      const { bucket, burst, fall, limit, queue, takes } = options
      const { calls, last, tooLong, tooMany } = play(options)
      const end = Math.max(...last.values()) / 1_000
      const span = bucket / 100
      // Each is done once.
      const sent = calls.reduce((sum, { members }) => sum + members.length, 0)
      expect(sent - tooLong.length).toBeGreaterThanOrEqual(queue.length)
      expect(tooMany).toEqual([])
      // What leaves before the first answers may be far too much; that, and what it teaches, is over a span later. From
      // then on the limit of each who pays is tried now and then, by one call.
      const late = tooLong.filter((at) => at > (tooLong[0] ?? 0) + 1.5 * span * 1_000)
      expect(late.length).toBeLessThanOrEqual(3 + (3 * end) / span)
      refused += tooLong.length
      const work = queue.reduce((sum, method) => sum + (takes[method] ?? 0), 0) / 1_000
      const byRate = Math.max(0, queue.length / 50 - burst) / fall
      expect(end).toBeLessThanOrEqual(1.3 * ((work / limit) * span + byRate) + 1.5 * span)
    }),
    // A smaller one is looked for by hand: there are too many of them.
    { numRuns: 60, endOnFailure: true }
  )
  expect(refused).toBeGreaterThan(0)
})
