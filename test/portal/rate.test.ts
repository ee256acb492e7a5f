import { expect, test } from "bun:test"
import fc from "fast-check"
import { atStart, learn, left, room } from "../../src/portal/limits.ts"
import { Done, Limited } from "../../src/portal/outcome.ts"
import { RateBuckets } from "../../src/sandbox/portal/limits.ts"

const done = Done({ status: 200, body: Buffer.from("{}"), time: undefined })
const tooMany = Limited({ scope: "portal" })

interface Backlog {
  readonly calls: number
  readonly burst: number
  /** Calls a second. */
  readonly fall: number
  readonly stepwise: boolean
  readonly countsRefused: boolean
  /** Milliseconds that a call takes; a refused one takes two. */
  readonly takes: number
  readonly concurrency: number
}

/** Sends a backlog to a portal of which nobody told anything, on a clock of its own. */
const send = ({ calls, burst, fall, stepwise, countsRefused, takes, concurrency }: Backlog) => {
  const portal = new RateBuckets({ burst, fall, period: 1_000, stepwise, countsRefused })
  let limits = atStart(0, "auto", "box.example")
  let now = 0
  let waiting = calls
  let last = 0
  let inFlight: Array<{ readonly at: number; readonly admitted: boolean }> = []
  const refusals: Array<number> = []
  while (waiting + inFlight.length > 0) {
    for (let free = Math.min(waiting, room(limits, now, inFlight.length, concurrency).calls); free > 0; free--) {
      limits = left(limits, now)
      waiting--
      const admitted = portal.admits("us", now)
      inFlight.push({ at: now + (admitted ? takes : 2), admitted })
    }
    const { until = Infinity } = room(limits, now, inFlight.length, concurrency)
    now = Math.min(...inFlight.map(({ at }) => at), waiting > 0 ? Math.max(now + 1, until) : Infinity)
    expect(now).not.toBe(Infinity)
    for (const { at, admitted } of inFlight) {
      if (at > now) continue
      limits = learn(limits, now, "1#ab batch", admitted ? done : tooMany, concurrency)
      if (admitted) last = now
      else {
        refusals.push(now)
        waiting++
      }
    }
    inFlight = inFlight.filter(({ at }) => at > now)
  }
  const least = Math.max(Math.ceil((calls - burst) / fall) * 1_000, (calls * takes) / concurrency)
  return { time: last / least, refusals }
}

/** The most refusals within a second of each other. */
const largestEvent = (refusals: ReadonlyArray<number>) =>
  Math.max(0, ...refusals.map((at) => refusals.filter((other) => other >= at && other < at + 1_000).length))

const portal = {
  stepwise: fc.boolean(),
  countsRefused: fc.boolean(),
  takes: fc.integer({ min: 10, max: 1_000 }),
  concurrency: fc.integer({ min: 4, max: 16 })
}

test("the limits of the vendor's plans are found out at little cost, and each event costs no more than was in flight", () =>
  fc.assert(
    fc.property(fc.record(portal), fc.boolean(), (how, isCloud) => {
      const plan = isCloud ? { calls: 200, burst: 50, fall: 2 } : { calls: 1_000, burst: 250, fall: 5 }
      const { time, refusals } = send({ ...how, ...plan })
      // Where refused calls fill the bucket, too, it takes those of the first event to leak out again.
      expect(time).toBeLessThan(how.countsRefused ? 1.2 : 1.1)
      expect(largestEvent(refusals)).toBeLessThanOrEqual(how.concurrency)
      expect(refusals.length).toBeLessThan(40)
    }),
    { numRuns: 200 }
  ))

test("so are others, between them and beside them", () =>
  fc.assert(
    fc.property(
      fc.record({ ...portal, burst: fc.integer({ min: 10, max: 300 }), fall: fc.integer({ min: 2, max: 10 }) }),
      (how) => {
        const { time, refusals } = send({ ...how, calls: how.burst + 100 * how.fall })
        // One that looks like a plan's at its first refusal is taken for that, and found faster step by step only.
        expect(time).toBeLessThan(3)
        expect(largestEvent(refusals)).toBeLessThanOrEqual(how.concurrency)
      }
    ),
    { numRuns: 200 }
  ))
