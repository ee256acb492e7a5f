import { expect, test } from "bun:test"
import { Duration, Redacted } from "effect"
import fc from "fast-check"
import { madeAt, openAges } from "../../src/bridge/age.ts"
import type { Request } from "../../src/message/request.ts"
import type { Delivery } from "../../src/queue/held.ts"
import type { ParkedDelivery } from "../../src/queue/walk.ts"

const now = Date.parse("2026-11-26T10:00:00Z")
const second = 1_000
const minute = 60 * second

const request = (messageId?: string): Request => ({
  id: `digest of ${messageId}`,
  messageId,
  correlationId: undefined,
  method: "crm.deal.add",
  user: "1",
  token: Redacted.make("secret"),
  credential: "1#0",
  body: Buffer.from("{}"),
  parameters: {},
  order: undefined
})

const delivery = (timestamp?: number) => ({ incoming: { timestamp } }) as Delivery
const parked = (note: Pick<ParkedDelivery, "since" | "deadline">, timestamp?: number) =>
  ({ ...delivery(timestamp), ...note, putBack: () => true }) as ParkedDelivery

test("a timestamp is seconds, or milliseconds by mistake; what cannot be true says nothing", () => {
  const seconds = now / second
  expect(madeAt(seconds - 90, now)).toBe(now - 90 * second)
  expect(madeAt(seconds, now)).toBe(now)
  expect(madeAt(now - 90 * second, now)).toBe(now - 90 * second)
  for (const nonsense of [
    undefined,
    0,
    1,
    -1,
    12_345,
    seconds + 1,
    now + 1,
    now * 1_000,
    2 ** 64,
    Number.NaN,
    Infinity
  ])
    expect(madeAt(nonsense, now)).toBeUndefined()
})

test("whatever is written there, nothing is of the future or older than the century", () => {
  fc.assert(
    fc.property(fc.oneof(fc.double(), fc.maxSafeInteger(), fc.nat(4_000_000_000)), (timestamp) => {
      const made = madeAt(timestamp, now) ?? now
      expect(made).toBeLessThanOrEqual(now)
      expect(made).toBeGreaterThanOrEqual(Date.parse("2000-01-01T00:00:00Z"))
    })
  )
})

test("without B24RMQ_MAX_AGE nothing becomes too old", () => {
  const { deadlineOf } = openAges(undefined)
  expect(deadlineOf(request("m"), delivery(1), now)).toBeUndefined()
  expect(deadlineOf(request("m"), parked({ since: 1, deadline: 2 }), now)).toBeUndefined()
})

test("age counts from the timestamp, else from the first time that it was seen, until it is answered", () => {
  const { deadlineOf, forget } = openAges(Duration.minutes(5))
  expect(deadlineOf(request("a"), delivery(now / second - 60), now)).toBe(now + 4 * minute)
  expect(deadlineOf(request("b"), delivery(), now)).toBe(now + 5 * minute)
  expect(deadlineOf(request("b"), delivery(), now + minute)).toBe(now + 5 * minute)
  expect(deadlineOf(request("c"), delivery(now / second + 900), now + minute)).toBe(now + 6 * minute)
  forget(request("b"))
  expect(deadlineOf(request("b"), delivery(), now + minute)).toBe(now + 6 * minute)
  // Of two without a name that are alike nobody knows which one came before.
  expect(deadlineOf(request(), delivery(), now)).toBe(now + 5 * minute)
  expect(deadlineOf(request(), delivery(), now + minute)).toBe(now + 6 * minute)
})

test("the deadline travels with a parked request, and its timestamp goes before that", () => {
  const { deadlineOf } = openAges(Duration.minutes(5))
  const note = { since: now, deadline: now + 3 * minute }
  expect(deadlineOf(request("a"), parked(note), now + minute)).toBe(now + 3 * minute)
  expect(deadlineOf(request("a"), parked(note, now / second - 60), now)).toBe(now + 4 * minute)
  expect(deadlineOf(request("a"), parked({ since: now, deadline: undefined }), now + minute)).toBe(now + 5 * minute)
})

test("requests that never come again are not remembered for ever", () => {
  const { deadlineOf } = openAges(Duration.minutes(5))
  deadlineOf(request("first"), delivery(), now)
  for (let n = 0; n < 100_000; n++) deadlineOf(request(`${n}`), delivery(), now)
  expect(deadlineOf(request("99999"), delivery(), now + minute)).toBe(now + 5 * minute)
  expect(deadlineOf(request("first"), delivery(), now + minute)).toBe(now + 6 * minute)
})

test("whoever is answered is told the age, the limit and what to do", () => {
  const { deadlineOf, tooOld } = openAges(Duration.minutes(5))
  const deadline = deadlineOf(request("a"), delivery(now / second - 400), now) ?? 0
  const { outcome, attempts, body } = tooOld(request("a"), deadline, now, 2)
  expect([outcome, attempts]).toEqual(["rejected", 2])
  expect(JSON.parse(Buffer.from(body).toString())).toEqual({
    error: "B24RMQ_EXPIRED",
    error_description:
      "crm.deal.add is 400 s old, and B24RMQ_MAX_AGE allows 300 s. It has changed nothing in the portal and is not sent any more. If it is still wanted, send it again, with a new timestamp if it has one; the same message_id will do."
  })
})
