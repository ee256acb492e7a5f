import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { begin, fastest, learn, mustStop, next, type Pace, whyStopped } from "../../src/bridge/pace.ts"

/** A replay of requests of which some come back, second by second, until it stops or none is left. */
const play = (outcomes: ReadonlyArray<boolean>, first: number) => {
  let pace: Pace = begin(first)
  let moved = 0
  const rates: Array<number> = []
  while (moved < outcomes.length) {
    rates.push(pace.rate)
    let cameBack = 0
    for (const outcome of outcomes.slice(moved, moved + pace.rate)) {
      pace = learn(pace, outcome)
      moved++
      if (outcome) cameBack++
      if (mustStop(pace)) return { moved, rates, stopped: whyStopped(pace) }
    }
    pace = next(pace, cameBack)
  }
  return { moved, rates, stopped: undefined }
}

const none = (count: number) => Array.from({ length: count }, () => false)

describe("a replay", () => {
  test("that none comes back of doubles its rate each second, up to 512", () => {
    expect(play(none(3_000), 1)).toEqual({
      moved: 3_000,
      rates: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512, 512, 512],
      stopped: undefined
    })
  })

  test("that half comes back of stops after five", () => {
    const half = none(100).map((_, n) => n % 2 === 0)
    expect(play(half, 1)).toMatchObject({ moved: 5, stopped: "3 of the last 5 requests came back" })
  })

  test("that all comes back of stops after three", () => {
    expect(play([true, true, true, true], 64)).toMatchObject({ moved: 3 })
  })

  test("slows down for a few, and goes on", () => {
    const few = none(200).map((_, n) => n % 12 === 11)
    const { rates, stopped } = play(few, 8)
    expect(stopped).toBeUndefined()
    expect(Math.max(...rates)).toBeLessThan(32)
  })

  test("stops soon after many begin to come back, however fast it was", () => {
    const turned = [...none(1_000), ...none(1_000).map(() => true)]
    const { moved } = play(turned, 1)
    expect(moved).toBeLessThanOrEqual(1_004)
  })
})

test("the rate is never below one nor above the fastest, and a stop takes three that came back among the last twenty", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 400 }), fc.integer({ min: 1, max: fastest }), (outcomes, first) => {
      const { moved, rates, stopped } = play(outcomes, first)
      for (const [n, rate] of rates.entries()) {
        expect(rate).toBeWithin(1, fastest + 1)
        if (n > 0) expect(rate).toBeLessThanOrEqual((rates[n - 1] ?? 0) * 2)
      }
      const last = outcomes.slice(Math.max(0, moved - 20), moved).filter((cameBack) => cameBack).length
      if (stopped === undefined) expect(moved).toBe(outcomes.length)
      else expect(last).toBeGreaterThanOrEqual(3)
    })
  )
})
