import { expect, test } from "bun:test"
import fc from "fast-check"
import { Lines, type Place } from "../../src/bridge/lines.ts"

const linesOf = () => {
  let changes = 0
  const lines = new Lines(() => void changes++)
  return { lines, changes: () => changes }
}

test("the first of a line may go, the next one once it has left", () => {
  const { lines, changes } = linesOf()
  const [one, two, other] = [lines.join("a", "1"), lines.join("a", "2"), lines.join("b", "3")]
  expect([one, two, other].map((place) => lines.isFirst(place))).toEqual([true, false, true])
  lines.leave(one)
  expect([lines.isFirst(two), changes()]).toEqual([true, 1])
  lines.leave(other)
  expect(changes()).toBe(1)
})

test("one must rest once all before it do, and is behind a resting one as soon as any does", () => {
  const { lines } = linesOf()
  const [one, two, three] = [lines.join("a", "1"), lines.join("a", "2"), lines.join("a", "3")]
  lines.rest(two)
  expect([lines.mustRest(three), lines.isBehindResting(three)]).toEqual([false, true])
  lines.rest(one)
  expect([lines.mustRest(one), lines.mustRest(three)]).toEqual([false, true])
  expect(lines.resting).toEqual([one, two])
})

test("parked ones stand by their tickets, before all that came since", () => {
  const { lines } = linesOf()
  const fresh = lines.join("a", "1")
  const [late, early] = [lines.find("a", 7), lines.find("a", 5)]
  expect(lines.find("a", 7)).toBe(late)
  expect([early, late, fresh].map((place) => lines.isFirst(place))).toEqual([true, false, false])
  lines.leave(early)
  expect(lines.isFirst(late)).toBe(true)
})

test("a place waits for what was lost, until that comes again or is given up", () => {
  const { lines } = linesOf()
  const [lost, gone, later] = [lines.join("a", "1"), lines.join("a", "2"), lines.join("a", "3")]
  lines.await(lost)
  lines.await(gone)
  expect(lines.isFirst(later)).toBe(false)
  expect(lines.join("a", "1")).toBe(lost)
  lines.giveUp()
  lines.leave(lost)
  expect(lines.isFirst(later)).toBe(true)
})

test("of two alike that were lost one place is kept", () => {
  const { lines } = linesOf()
  const [one, twin, later] = [lines.join("a", "1"), lines.join("a", "1"), lines.join("a", "2")]
  lines.await(one)
  lines.await(twin)
  lines.leave(lines.join("a", "1"))
  expect(lines.isFirst(later)).toBe(true)
})

test("a twin is moved before the one that waits for its answer", () => {
  const { lines } = linesOf()
  const [waits, middle, runs] = [lines.join("a", "1"), lines.join("a", "2"), lines.join("a", "1")]
  lines.advance(runs, waits)
  expect(lines.isFirst(runs)).toBe(true)
  lines.leave(runs)
  lines.leave(waits)
  expect(lines.isFirst(middle)).toBe(true)
})

const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ what: fc.constant("join" as const) }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant("find" as const), ticket: fc.integer({ min: 1, max: 20 }) }) },
  {
    weight: 6,
    arbitrary: fc.record({ what: fc.constantFrom("rest" as const, "wake" as const, "leave" as const), which: fc.nat() })
  },
  { weight: 1, arbitrary: fc.record({ what: fc.constant("advance" as const), which: fc.nat(), before: fc.nat() }) }
)

test("whatever happens in a line, it stands as it would if it were written down on a list", () =>
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { lines } = linesOf()
      const list: Array<Place> = []
      const at = (which: number) => list[which % list.length]
      for (const [n, one] of steps.entries()) {
        if (one.what === "join") list.push(lines.join("a", String(n)))
        else if (one.what === "find") {
          const place = lines.find("a", one.ticket)
          const known = list.some((other) => other.ticket === one.ticket)
          expect(list.includes(place)).toBe(known)
          const earlier = list.findLastIndex(({ ticket = Infinity }) => ticket < one.ticket)
          if (!known) list.splice(earlier + 1, 0, place)
        } else {
          const place = at(one.which)
          if (place === undefined) continue
          if (one.what !== "advance") lines[one.what](place)
          if (one.what === "leave") list.splice(list.indexOf(place), 1)
          if (one.what === "advance") {
            const before = at(one.before) ?? place
            lines.advance(place, before)
            if (list.indexOf(place) > list.indexOf(before)) {
              list.splice(list.indexOf(place), 1)
              list.splice(list.indexOf(before), 0, place)
            }
          }
        }
        const awake = list.findIndex(({ resting }) => !resting)
        const resting = list.findIndex(({ resting }) => resting)
        expect(list.map((place) => lines.isFirst(place))).toEqual(list.map((_, index) => index === 0))
        expect(list.map((place) => lines.mustRest(place))).toEqual(list.map((_, index) => index > 0 && index === awake))
        expect(list.map((place) => lines.isBehindResting(place))).toEqual(
          list.map((_, index) => resting >= 0 && resting < index)
        )
        expect(lines.resting).toEqual(list.filter((place) => place.resting))
      }
    }),
    { numRuns: 300 }
  ))
