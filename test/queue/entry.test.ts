import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { type Entry, entryOf, type Filter, fits, keptCopy, replayedCopy, replayOf } from "../../src/queue/entry.ts"
import { rawOf } from "../../src/queue/raw.ts"
import { delivery } from "./parked.ts"

const entry: Entry = {
  id: "abc",
  code: "B24RMQ_BAD_JSON",
  text: "The body is not valid JSON.",
  at: 1_000_000,
  queue: "in",
  messageId: "m1",
  correlationId: undefined,
  method: "crm.deal.add",
  user: "1",
  credential: "1#01234567",
  bytes: 3,
  replay: undefined
}

describe("a filter means an entry", () => {
  const cases: ReadonlyArray<readonly [Filter, boolean]> = [
    [{}, true],
    [{ id: "abc" }, true],
    [{ id: "ab" }, false],
    [{ code: "B24RMQ_BAD_JSON", method: "crm.deal.add", user: "1", messageId: "m1" }, true],
    [{ code: "B24RMQ_BAD_JSON", method: "crm.deal.list" }, false],
    [{ method: "CRM.deal.ADD" }, true],
    [{ method: "crm.*" }, true],
    [{ method: "crm.lead.*" }, false],
    [{ user: "2" }, false],
    [{ messageId: "m2" }, false],
    [{ before: 1_000_001 }, true],
    [{ before: 1_000_000 }, false],
    [{ since: 1_000_000 }, true],
    [{ since: 1_000_001 }, false]
  ]
  for (const [filter, meant] of cases) {
    test(`${JSON.stringify(filter)}: ${meant}`, () => expect(fits(filter, entry)).toBe(meant))
  }

  test("and none that has no such part, but for a star alone", () => {
    const bare: Entry = { ...entry, method: undefined, at: undefined, user: undefined, messageId: undefined }
    for (const filter of [{ method: "crm.*" }, { before: 5 }, { since: 0 }, { user: "1" }, { messageId: "m1" }])
      expect(fits(filter, bare)).toBe(false)
    expect(fits({ method: "*" }, bare)).toBe(true)
  })
})

/** What the broker would make of a copy. */
const arrived = (body: Uint8Array, copy: ReturnType<typeof keptCopy>) =>
  rawOf({
    content: Buffer.from(body),
    fields: { deliveryTag: 1, redelivered: false, exchange: "", routingKey: "" },
    properties: { ...delivery("").incoming.properties, ...JSON.parse(JSON.stringify(copy)) }
  })

test("what is written on a kept request is read again, and gone when it goes back", () => {
  const text = fc.string({ unit: "binary", maxLength: 600 })
  const note = fc.record({
    id: text,
    code: text,
    text,
    queue: text,
    at: fc.integer({ min: 0, max: 4_102_444_800_000 })
  })
  fc.assert(
    fc.property(note, text, (note, own) => {
      const { incoming } = delivery("body", { messageId: "m1", headers: { own, "x-b24rmq-rejected-id": "forged" } })
      const kept = arrived(incoming.body, keptCopy(incoming, note))
      expect(entryOf(kept)).toMatchObject({
        id: note.id.toWellFormed(),
        code: note.code.toWellFormed(),
        text: note.text.slice(0, 500).toWellFormed(),
        queue: note.queue.toWellFormed(),
        at: note.at,
        messageId: "m1",
        bytes: 4
      })
      const back = arrived(kept.body, replayedCopy(kept, "run.abc", 1_800_000_000_500))
      expect(back.headers).toEqual({ own: own.toWellFormed(), "x-b24rmq-replay": "run.abc" })
      expect(replayOf(back)).toBe("run.abc")
    })
  )
})

test("a text that is no date and headers of other kinds are not taken for ours", () => {
  const headers = { "x-b24rmq-rejected-at": "soon", "x-b24rmq-rejected-id": 7, "x-b24rmq-rejected-code": ["a"] }
  const read = entryOf(delivery("", { headers }).incoming)
  expect(read).toMatchObject({
    id: expect.stringMatching(/^[0-9a-f]{10}$/),
    code: "",
    text: "",
    at: undefined,
    queue: ""
  })
})
