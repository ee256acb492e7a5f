import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import {
  atStart,
  isHopeless,
  next,
  type Part,
  type Sight,
  stalls,
  type Suspicion,
  type Verdict
} from "../../src/watch/stall.ts"

const bounds = { tick: 1_000, calm: 60_000 }
const none: Sight["progress"] = { intake: 0, bridge: 0, dispatch: 0, portal: 0, outlet: 0 }

const suspicion = (part: Part, key: unknown = part, limit = 10_000): Suspicion => ({ key, part, what: "why", limit })

interface Look {
  readonly at: number
  readonly suspicions: ReadonlyArray<Suspicion>
  readonly progress?: Sight["progress"]
}

/** All that is said, with its time. */
const watched = (looks: ReadonlyArray<Look>) => {
  let watch = atStart(0)
  const said: Array<readonly [number, Verdict]> = []
  for (const { at, suspicions, progress = none } of looks) {
    const [after, verdicts] = next(watch, { at, suspicions, progress }, bounds)
    watch = after
    said.push(...verdicts.map((verdict) => [at, verdict] as const))
  }
  return { said, watch }
}

const everySecond = (seconds: number, look: (second: number) => Omit<Look, "at">) =>
  Array.from({ length: seconds }, (_, second): Look => ({ at: second * 1_000, ...look(second) }))

/** What is done and when, in seconds. */
const remediesOf = (said: ReadonlyArray<readonly [number, Verdict]>) =>
  said.map(([at, verdict]): readonly [number, string] => [
    at / 1_000,
    verdict._tag === "Over" ? "over" : (verdict.remedy ?? "none left")
  ])

describe("a part that does not move", () => {
  const cases: ReadonlyArray<readonly [Part, ReadonlyArray<string>]> = [
    ["intake", ["intake", "connection"]],
    ["bridge", ["intake"]],
    ["dispatch", ["dispatch"]],
    ["portal", []],
    ["outlet", ["outlet", "connection"]]
  ]
  for (const [part, remedies] of cases) {
    test(`${part}: one remedy after another, then it is given up, then tried again each minute`, () => {
      const { said, watch } = watched(everySecond(120, () => ({ suspicions: [suspicion(part)] })))
      const steps = [...remedies, "none left"]
      const last = remedies.at(-1) ?? "none left"
      const first = steps.map((step, n): readonly [number, string] => [10 * (n + 1), step])
      const given = 10 * steps.length
      expect(remediesOf(said)).toEqual([...first, [given + 60, last]])
      expect(isHopeless(watch)).toBe(true)
      expect(stalls(watch)).toEqual([{ part, what: "why" }])
    })
  }
})

test("what moves again is over, and begins with the mildest remedy after a calm minute only", () => {
  const stuck = (second: number) => second < 12 || (second >= 20 && second < 40) || (second >= 150 && second < 170)
  const progress = (second: number) => ({ ...none, outlet: second < 12 ? 0 : second < 40 ? 1 : 2 })
  const { said, watch } = watched(
    everySecond(300, (second) => ({
      suspicions: stuck(second) ? [suspicion("outlet", second < 100 ? "first" : "later")] : [],
      progress: progress(second)
    }))
  )
  expect(remediesOf(said)).toEqual([
    [10, "outlet"],
    [12, "over"],
    [30, "connection"],
    [40, "over"],
    [160, "outlet"],
    // Nothing was done, but nothing is to be done any more either.
    [220, "over"]
  ])
  expect(stalls(watch)).toEqual([])
  expect(isHopeless(watch)).toBe(false)
})

test("a hopeless one has hope again once it moves", () => {
  const looks = everySecond(40, () => ({ suspicions: [suspicion("portal")] }))
  expect(isHopeless(watched(looks).watch)).toBe(true)
  const moved = { at: 40_000, suspicions: [], progress: { ...none, portal: 1 } }
  expect(isHopeless(watched([...looks, moved]).watch)).toBe(false)
})

test("a process that stood still suspects nobody of what it did not see", () => {
  const looks = [
    ...everySecond(9, () => ({ suspicions: [suspicion("intake")] })),
    ...everySecond(9, () => ({ suspicions: [suspicion("intake")] })).map(({ at, suspicions }) => ({
      at: at + 3_600_000,
      suspicions
    }))
  ]
  expect(watched(looks).said).toEqual([])
})

test("nothing is said of what was not there at every look for as long as its limit", () => {
  const look = fc.record({
    pause: fc.oneof({ weight: 9, arbitrary: fc.constant(1_000) }, fc.integer({ min: 1, max: 20_000 })),
    keys: fc.subarray(["a", "b", "c"]),
    moves: fc.boolean()
  })
  const limits = { a: 5_000, b: 10_000, c: 20_000 }
  const partOf = { a: "intake", b: "intake", c: "outlet" } as const
  fc.assert(
    fc.property(fc.array(look, { minLength: 1, maxLength: 200, size: "max" }), (steps) => {
      let at = 0
      let done = 0
      const since = new Map<string, number>()
      const looks: Array<Look> = []
      const mayStall = new Map<number, Set<Part>>()
      for (const { pause, keys, moves } of steps) {
        if (pause > 5 * bounds.tick) since.clear()
        at += pause
        if (moves) done++
        for (const key of since.keys()) if (!keys.includes(key as "a")) since.delete(key)
        const named = keys as ReadonlyArray<"a" | "b" | "c">
        for (const key of named) since.set(key, since.get(key) ?? at)
        const ripe = named.filter((key) => at - (since.get(key) ?? at) >= limits[key])
        mayStall.set(at, new Set(ripe.map((key) => partOf[key])))
        looks.push({
          at,
          suspicions: named.map((key) => suspicion(partOf[key], key, limits[key])),
          progress: { ...none, intake: done }
        })
      }
      const last = new Map<Part, number>()
      for (const [time, verdict] of watched(looks).said) {
        if (verdict._tag === "Over") continue
        expect(mayStall.get(time)).toContain(verdict.part)
        // And the remedy before it had its time.
        expect(time - (last.get(verdict.part) ?? -Infinity)).toBeGreaterThanOrEqual(5_000)
        last.set(verdict.part, time)
      }
    }),
    { numRuns: 200 }
  )
})
