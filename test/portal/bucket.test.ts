import { expect, test } from "bun:test"
import fc from "fast-check"
import {
  type Bucket,
  bucketFor,
  bucketInstead,
  fill,
  letIn,
  levelAt,
  overflow,
  roomAt,
  roomIn
} from "../../src/portal/bucket.ts"

/** The portal's own counting, with the fall in steps at some phase of the second, or smooth. */
class Leaky {
  private level = 0
  private at = 0
  readonly rate: number
  readonly depth: number
  readonly stepped: boolean
  readonly phase: number

  constructor(rate: number, depth: number, stepped: boolean, phase: number) {
    this.rate = rate
    this.depth = depth
    this.stepped = stepped
    this.phase = phase
  }

  accepts(now: number): boolean {
    const seconds = this.stepped
      ? Math.floor((now + this.phase) / 1_000) - Math.floor((this.at + this.phase) / 1_000)
      : (now - this.at) / 1_000
    this.level = Math.max(0, this.level - seconds * this.rate)
    this.at = now
    if (this.level + 1 > this.depth) return false
    this.level++
    return true
  }
}

const plan = fc.constantFrom({ rate: 2, depth: 50 }, { rate: 5, depth: 250 })
const arrivals = fc.array(fc.integer({ min: 0, max: 3_000 }), { minLength: 1, maxLength: 400, size: "max" })

test("no trace of arrivals makes it send more than the portal's bucket takes, however that falls", () =>
  fc.assert(
    fc.property(plan, arrivals, fc.boolean(), fc.integer({ min: 0, max: 999 }), (rate, gaps, stepped, phase) => {
      const portal = new Leaky(rate.rate, rate.depth, stepped, phase)
      let bucket = bucketFor(rate, "box.example", 0)
      let now = 0
      for (const gap of gaps) {
        now = Math.max(now + gap, roomAt(bucket, now + gap))
        bucket = fill(bucket, now)
        expect(portal.accepts(now)).toBe(true)
      }
    }),
    { numRuns: 300 }
  ))

test("no room is left unused while a request may go: a backlog leaves at the full rate after the burst", () =>
  fc.assert(
    fc.property(plan, fc.integer({ min: 300, max: 800 }), (rate, count) => {
      let bucket = bucketFor(rate, "box.example", 0)
      let now = 0
      for (let sent = 0; sent < count; sent++) {
        now = Math.max(now, roomAt(bucket, now))
        bucket = fill(bucket, now)
      }
      const least = ((count - rate.depth) / rate.rate) * 1_000
      expect(now).toBeLessThanOrEqual(least + 1_000 + count)
    })
  ))

test("roomIn and roomAt agree", () =>
  fc.assert(
    fc.property(plan, arrivals, (rate, gaps) => {
      let bucket = bucketFor(rate, "box.example", 0)
      let now = 0
      for (const gap of gaps) {
        now += gap
        expect(roomIn(bucket, now) >= 1).toBe(roomAt(bucket, now) <= now)
        if (roomIn(bucket, now) >= 1) bucket = fill(bucket, now)
      }
    })
  ))

test("auto knows the cloud by its domains, and nothing of other hosts until they refuse", () => {
  expect(roomIn(bucketFor("auto", "acme.bitrix24.ru", 0), 0)).toBe(48)
  expect(roomIn(bucketFor("auto", "crm.acme.ru", 0), 0)).toBe(Infinity)
  expect(roomIn(bucketFor("auto", "bitrix24.ru.evil.example", 0), 0)).toBe(Infinity)
  expect(roomIn(bucketFor("off", "acme.bitrix24.ru", 0), 0)).toBe(Infinity)
  const learned = overflow(bucketFor("auto", "crm.acme.ru", 0), 1_000)
  expect(roomIn(learned, 1_000)).toBeLessThan(1)
  expect(roomAt(learned, 1_000)).toBeGreaterThan(2_000)
})

/** What is learned from a refusal after so many requests a second, for so many seconds. */
const refusedAfter = (perSecond: number, seconds: number) => {
  let bucket = bucketFor("auto", "crm.acme.ru", 0)
  for (let sent = 0; sent < perSecond * seconds; sent++) bucket = fill(bucket, (sent * 1_000) / perSecond)
  return overflow(bucket, seconds * 1_000)
}

test("the first refusal is understood by what went through before", () => {
  for (const [perSecond, seconds, rate, depth] of [
    [1, 1, 2, 50],
    [10, 6, 2, 50],
    [50, 1, 2, 50],
    [60, 5, 5, 250],
    [255, 1, 5, 250]
  ] as const) {
    expect(refusedAfter(perSecond, seconds)).toMatchObject({ rate, depth, level: depth })
  }
  // No plan takes as much: it is the stray refusal of a portal that can do more.
  const { rate, depth } = refusedAfter(300, 60)
  expect(rate).toBeGreaterThan(290)
  expect(rate).toBeLessThan(300)
  expect(depth).toBe(250)
})

test("what was slow for long says nothing of a burst: only what the portal cannot have forgotten counts", () =>
  expect(refusedAfter(1, 10_000)).toMatchObject({ rate: 2, depth: 50 }))

test("refusals one after the other teach the same once, and one that strays costs no rate", () => {
  let bucket = bucketFor({ rate: 2, depth: 50 }, "x", 0)
  let now = 0
  for (let sent = 0; sent < 200; sent++) {
    now = Math.max(now, roomAt(bucket, now))
    bucket = letIn(fill(bucket, now), now)
  }
  for (const pause of [0, 1_000, 1_500, 2_250]) {
    now += pause
    bucket = overflow(fill(bucket, now), now)
    expect(bucket.rate).toBeGreaterThan(1.9)
    expect(bucket.depth).toBeGreaterThan(45)
    expect(roomIn(bucket, now)).toBeLessThan(1)
  }
})

/** Sends as fast as the model lets it, a second's pause after each refusal. */
const drain = (portal: Leaky, start: Bucket, count: number) => {
  let bucket = start
  let now = 0
  let refused = 0
  for (let sent = 0; sent < count;) {
    now = Math.max(now, roomAt(bucket, now))
    if (portal.accepts(now)) {
      bucket = letIn(fill(bucket, now), now)
      sent++
    } else {
      refused++
      bucket = overflow(fill(bucket, now), now)
      now += 1_000
    }
  }
  return { now, refused, bucket }
}

test("a portal that leaks slower than configured is believed after a few refusals, and its rate comes back", () => {
  const { now, refused, bucket } = drain(new Leaky(1, 50, false, 0), bucketFor({ rate: 2, depth: 50 }, "x", 0), 400)
  expect(now / 350_000).toBeLessThan(1.3)
  expect(refused).toBeLessThan(40)
  expect(roomIn(fill(bucket, now + 600_000), now + 600_000)).toBeGreaterThan(40)
})

test("an unknown portal with more room is used better and better", () => {
  const { now, refused } = drain(new Leaky(5, 250, true, 300), bucketFor("auto", "crm.acme.ru", 0), 1_000)
  expect(now / 150_000).toBeLessThan(1.4)
  expect(refused).toBeLessThan(20)
})

test("under another rate what has gone before is in the bucket still", () => {
  let bucket = bucketFor({ rate: 2, depth: 50 }, "box.example", 0)
  for (let n = 0; n < 40; n++) bucket = fill(bucket, 0)
  const larger = bucketInstead(bucket, { rate: 5, depth: 250 }, "box.example", 1_000)
  expect([larger.rate, larger.depth, larger.level]).toEqual([5, 250, 38])
  // A smaller one is full, and lets the next go when it has leaked.
  const smaller = bucketInstead(bucket, { rate: 1, depth: 10 }, "box.example", 1_000)
  expect(roomIn(smaller, 1_000)).toBe(-1)
  expect(roomIn(smaller, 3_000)).toBe(1)
  expect(roomIn(bucketInstead(bucket, "off", "box.example", 1_000), 1_000)).toBe(Infinity)
  // Where no limit was known, what went is remembered as the cloud would have counted it.
  let free = bucketFor("auto", "box.example", 0)
  for (let n = 0; n < 30; n++) free = fill(free, 0)
  expect(levelAt(bucketInstead(free, { rate: 2, depth: 50 }, "box.example", 5_000), 5_000)).toBe(20)
})
