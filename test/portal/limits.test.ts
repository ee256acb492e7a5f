import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import {
  atStart as startAt,
  concurrencyOf,
  costOf,
  learn,
  type Limits,
  methodTime,
  probed,
  room,
  steady
} from "../../src/portal/limits.ts"
import { Done, Limited, type Outcome, Refused, Unavailable, Unknown } from "../../src/portal/outcome.ts"

const body = Buffer.from("{}")
const done = Done({ status: 200, body, time: undefined })
const refused = Refused({ status: 400, body, code: "", alarm: undefined })
const tooMany = Limited({ scope: "portal" })
const tooLong = Limited({ scope: "method" })
const away = Unavailable({ reason: "ECONNREFUSED", alarm: undefined })
const silent = Unknown({ reason: "reset", status: undefined, silent: true, timedOut: false })
const failed = Unknown({ reason: "HTTP 500", status: 500, silent: false, timedOut: false })

const outcome: fc.Arbitrary<Outcome> = fc.constantFrom(done, refused, tooMany, tooLong, away, silent, failed)

const go = { _tag: "Go" } as const

const atStart = (now: number) => startAt(now, "off", "box.example")

/** May one call of a method go? */
const next = (limits: Limits, now: number, method: string, inFlight: number, ceiling: number) => {
  const { seconds, until } = methodTime(limits, now, method, 0)
  const ofMethod = { calls: seconds / costOf(limits, method), reason: "operating time", until } as const
  const rooms = [room(limits, now, inFlight, ceiling), ofMethod]
  const none = rooms.find(({ calls }) => calls < 1)
  return none === undefined ? go : ({ _tag: "Wait", reason: none.reason, until: none.until } as const)
}
const method = "1#ab crm.deal.list"

/** Learns one thing after the other, at the same time. */
const learnAll = (limits: Limits, now: number, outcomes: ReadonlyArray<Outcome>, ceiling = 16) =>
  outcomes.reduce((known, outcome) => learn(known, now, method, outcome, ceiling), limits)

describe("concurrency", () => {
  test("starts at what the settings allow, whatever that is at the moment", () => {
    for (const ceiling of [1, 16, 1_000]) expect(concurrencyOf(atStart(0), 0, ceiling)).toBe(ceiling)
  })

  test("is halved by a failure, and one more is allowed with every second after it", () =>
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000 }),
        fc.nat({ max: 1_000_000 }),
        fc.constantFrom(failed, silent),
        (ceiling, now, bad) => {
          const limits = learn(atStart(0), now, method, bad, ceiling)
          const half = Math.max(1, Math.floor(ceiling / 2))
          expect(concurrencyOf(limits, now, ceiling)).toBe(half)
          expect(concurrencyOf(limits, now + 999, ceiling)).toBe(half)
          for (const seconds of [1, 2, 7, 2_000]) {
            expect(concurrencyOf(limits, now + seconds * 1_000, ceiling)).toBe(Math.min(ceiling, half + seconds))
          }
        }
      )
    ))

  test("is halved once by calls that fail within a second of each other, again by later ones, down to one", () => {
    let limits = learnAll(atStart(0), 5_000, Array(16).fill(failed))
    expect(concurrencyOf(limits, 5_000, 16)).toBe(8)
    limits = learnAll(limits, 5_999, [failed])
    expect(concurrencyOf(limits, 5_999, 16)).toBe(8)
    const allowed = Array.from({ length: 8 }, (_, index) => {
      const now = 6_000 + index * 1_000
      limits = learnAll(limits, now, [failed])
      return concurrencyOf(limits, now, 16)
    })
    expect(allowed).toEqual([4, 2, 1, 1, 1, 1, 1, 1])
  })

  test("is not changed by what the portal said no to, did, or did not get", () => {
    for (const kind of [done, refused, tooMany, tooLong, away]) {
      expect(concurrencyOf(learn(atStart(0), 0, method, kind, 16), 0, 16)).toBe(16)
    }
  })

  test("is asked again when time will help, and not where only the end of a call can", () => {
    const limits = learnAll(atStart(0), 0, [failed])
    expect(next(limits, 0, method, 7, 16)).toEqual(go)
    expect(next(limits, 0, method, 8, 16)).toEqual({ _tag: "Wait", reason: "concurrency", until: 1_000 })
    expect(next(limits, 1_000, method, 8, 16)).toEqual(go)
    expect(next(atStart(0), 0, method, 16, 16)).toEqual({ _tag: "Wait", reason: "concurrency", until: undefined })
    // The ceiling was lowered while calls were in flight.
    expect(next(atStart(0), 0, method, 16, 4)).toEqual({ _tag: "Wait", reason: "concurrency", until: undefined })
  })
})

describe("too many requests", () => {
  /** Refused again and again, as soon as the pause is over. */
  const pauses = (limits: Limits, count: number, from: number) => {
    const taken: Array<number> = []
    let known = limits
    let now = from
    for (let index = 0; index < count; index++) {
      known = learnAll(known, now, [tooMany])
      taken.push(known.pausedUntil - now)
      now = known.pausedUntil
    }
    return { taken, known, now }
  }

  test("pause everything from 1 s on, half as much again each time, up to 30 s", () => {
    const { taken } = pauses(atStart(0), 12, 500)
    expect(taken.map(Math.round)).toEqual([
      1_000, 1_500, 2_250, 3_375, 5_063, 7_594, 11_391, 17_086, 25_629, 30_000, 30_000, 30_000
    ])
  })

  test("start anew after a call that went through, done or refused", () => {
    for (const through of [done, refused]) {
      const { known, now } = pauses(atStart(0), 9, 0)
      expect(pauses(learnAll(known, now, [through]), 2, now).taken).toEqual([1_000, 1_500])
    }
  })

  test("are one event while they pause: the calls that were in flight together", () => {
    const once = learnAll(atStart(0), 1_000, [tooMany])
    expect(learnAll(once, 1_999, Array(15).fill(tooMany))).toEqual(once)
    expect(learnAll(once, 2_000, [tooMany]).pausedUntil).toBe(3_500)
  })

  test("hold every method until then, and no longer", () => {
    const limits = learnAll(atStart(0), 1_000, [tooMany])
    for (const name of [method, "2#cd profile"]) {
      expect(next(limits, 1_999, name, 0, 16)).toEqual({ _tag: "Wait", reason: "rate", until: 2_000 })
      expect(next(limits, 2_000, name, 0, 16)).toEqual(go)
    }
  })
})

describe("a method that ran too long", () => {
  test("is closed for its credential, and for nobody else", () => {
    const limits = learnAll(atStart(0), 1_000, [tooLong])
    expect(next(limits, 2_999, method, 0, 16)).toEqual({ _tag: "Wait", reason: "operating time", until: 3_000 })
    expect(next(limits, 3_000, method, 0, 16)).toEqual(go)
    for (const other of ["1#ab crm.deal.get", "2#ab crm.deal.list"]) {
      expect(next(limits, 1_000, other, 0, 16)).toEqual(go)
    }
  })

  test("is forgotten when it is open again: the list does not grow for ever", () => {
    let limits = atStart(0)
    for (let minute = 0; minute < 1_000; minute++) {
      limits = learn(limits, minute * 60_000, `method ${minute}`, tooLong, 16)
      expect(limits.operating.uses.size).toBeLessThanOrEqual(200)
    }
  })
})

describe("health", () => {
  test("is in question after silence, and calls wait until a probe has answered", () => {
    for (const bad of [silent, away]) {
      const limits = learnAll(atStart(0), 0, [bad])
      expect(limits.health).toBe("suspect")
      expect(next(limits, 1_000_000, method, 0, 16)).toEqual({
        _tag: "Wait",
        reason: "portal unavailable",
        until: undefined
      })
      expect(next(probed(limits, true), 1_000_000, method, 0, 16)).toEqual(go)
      expect(next(probed(limits, false), 1_000_000, method, 0, 16)).toMatchObject({ reason: "portal unavailable" })
    }
  })

  test("lets no write go after a silence until there were three signs of life in a row", () => {
    let limits = probed(learnAll(atStart(0), 0, [silent]), true)
    expect([limits.health, steady(limits)]).toEqual(["well", false])
    limits = learnAll(probed(learnAll(limits, 1, [done, silent]), true), 2, [done])
    expect(steady(limits)).toBe(false)
    limits = learnAll(limits, 3, [refused])
    expect(steady(limits)).toBe(true)
  })

  test("is not in question after an error that the portal itself spoke", () => {
    for (const kind of [done, refused, tooMany, tooLong, failed]) {
      expect(learnAll(atStart(0), 0, [kind]).health).toBe("well")
    }
  })

  test("of a portal that is away is changed by probes alone", () => {
    const gone = probed(learnAll(atStart(0), 0, [away]), false)
    for (const kind of [done, refused, tooMany, tooLong, failed, silent, away]) {
      expect(learnAll(gone, 5_000, [kind]).health).toBe("away")
    }
    expect(probed(gone, true).health).toBe("well")
  })
})

/** What may happen to a dispatcher: it wants to call, a call ends, time passes, a probe answers, a setting changes. */
const happening = fc.oneof(
  { weight: 6, arbitrary: fc.record({ what: fc.constant("call" as const), method: fc.integer({ min: 0, max: 3 }) }) },
  { weight: 4, arbitrary: fc.record({ what: fc.constant("end" as const), which: fc.nat(), outcome }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant("time" as const), ms: fc.integer({ min: 0, max: 40_000 }) }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant("probe" as const), alive: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant("ceiling" as const), calls: fc.integer({ min: 1, max: 20 }) }) }
)

test("whatever happens, no call goes that may not, none waits for a time that is over, and each can go some day", () => {
  let gone = 0
  let waited = 0
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 200, size: "max" }), (happenings) => {
      let limits = atStart(0)
      let now = 0
      let ceiling = 8
      const inFlight: Array<string> = []
      const untilClosed = new Map<string, number>()
      for (const one of happenings) {
        const allowed = concurrencyOf(limits, now, ceiling)
        expect(allowed).toBeGreaterThanOrEqual(1)
        expect(allowed).toBeLessThanOrEqual(ceiling)
        switch (one.what) {
          case "call": {
            const name = `method ${one.method}`
            const permission = next(limits, now, name, inFlight.length, ceiling)
            if (permission._tag === "Go") {
              gone++
              expect(inFlight.length).toBeLessThan(allowed)
              expect(limits.health).toBe("well")
              expect(limits.pausedUntil).toBeLessThanOrEqual(now)
              expect(untilClosed.get(name) ?? 0).toBeLessThanOrEqual(now)
              inFlight.push(name)
            } else {
              waited++
              if (permission.until !== undefined) {
                expect(permission.until).toBeGreaterThan(now)
                expect(permission.until).toBeLessThanOrEqual(now + 60_000)
              }
            }
            break
          }
          case "end": {
            const [name] = inFlight.splice(one.which % Math.max(1, inFlight.length), 1)
            if (name === undefined) break
            const isClosed = one.outcome._tag === "Limited" && one.outcome.scope === "method"
            if (isClosed && now >= (untilClosed.get(name) ?? 0)) untilClosed.set(name, now + 2_000)
            limits = learn(limits, now, name, one.outcome, ceiling)
            expect(limits.pausedUntil).toBeLessThanOrEqual(now + 30_000)
            break
          }
          case "time":
            now += one.ms
            break
          case "probe":
            limits = probed(limits, one.alive)
            break
          case "ceiling":
            ceiling = one.calls
        }
      }
      // A portal that is well again lets everything go after the longest of its waits, and all that is allowed in time.
      const later = now + 60_000
      expect(next(probed(limits, true), later, "method 0", 0, ceiling)).toEqual(go)
      expect(concurrencyOf(limits, later, ceiling)).toBe(ceiling)
    }),
    { numRuns: 2_000 }
  )
  expect(gone).toBeGreaterThan(10_000)
  expect(waited).toBeGreaterThan(10_000)
})
