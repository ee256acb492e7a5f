import { expect, test } from "bun:test"
import { Lines } from "../../src/bridge/lines.ts"

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
