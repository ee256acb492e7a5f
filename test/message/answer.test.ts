import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { type Answer, envelope, ownError, rejection, tooLarge } from "../../src/message/answer.ts"
import type { Incoming } from "../../src/message/incoming.ts"
import { Rejected } from "../../src/message/request.ts"

const incoming = (messageId?: string, correlationId?: string): Incoming => ({
  body: Buffer.alloc(0),
  headers: {},
  messageId,
  correlationId,
  timestamp: undefined
})

const done: Answer = { outcome: "done", body: Buffer.from("{}"), status: 200, attempts: 1 }

describe("the envelope", () => {
  test("echoes message_id; correlation_id is the producer's, else the message_id", () => {
    expect(envelope(done, incoming("m", "c"), "a.b")).toMatchObject({ messageId: "m", correlationId: "c" })
    expect(envelope(done, incoming("m"), "a.b")).toMatchObject({ messageId: "m", correlationId: "m" })
    expect(envelope(done, incoming(undefined, "c"), "a.b")).toMatchObject({ messageId: undefined, correlationId: "c" })
    expect(envelope(done, incoming(), "a.b")).toMatchObject({ messageId: undefined, correlationId: undefined })
    expect(envelope(done, incoming(""), "a.b")).toMatchObject({ messageId: "", correlationId: "" })
    const exact = fc.string({ unit: "binary", maxLength: 60 })
    fc.assert(fc.property(exact, (id) => expect(envelope(done, incoming(id), "a.b").messageId).toBe(id)))
  })

  test("leaves out an id that no message can carry any more: bytes that are not UTF-8 grow when they are read", () => {
    const grown = Buffer.alloc(255, 0xff).toString("utf8")
    expect(Buffer.byteLength(grown)).toBeGreaterThan(255)
    expect(envelope(done, incoming(grown, "c"), "a.b")).toMatchObject({ messageId: undefined, correlationId: "c" })
    expect(envelope(done, incoming(grown), "a.b")).toMatchObject({ messageId: undefined, correlationId: undefined })
    expect(envelope(done, incoming("я".repeat(127)), "a.b").messageId).toBe("я".repeat(127))
    expect(envelope(done, incoming("я".repeat(128)), "a.b").messageId).toBeUndefined()
  })

  test("tells outcome, attempts, status, method, and that it is a replay", () => {
    expect(envelope({ ...done, replayed: true }, incoming("m"), "a.b").headers).toEqual({
      "x-b24rmq-outcome": "done",
      "x-b24rmq-attempts": 1,
      "x-b24rmq-status": 200,
      "x-b24rmq-method": "a.b",
      "x-b24rmq-replayed": true
    })
    for (const resolved of ["found", "gone", "repeated"] as const)
      expect(envelope({ ...done, resolved }, incoming("m"), "a.b").headers["x-b24rmq-resolved"]).toBe(resolved)
    expect(
      envelope(rejection(new Rejected({ code: "C", description: "d" })), incoming("m"), undefined).headers
    ).toEqual({
      "x-b24rmq-outcome": "rejected",
      "x-b24rmq-attempts": 0
    })
  })
})

test("an error of the bridge has the form of the portal's own", () => {
  const parsed = (body: Uint8Array) => JSON.parse(Buffer.from(body).toString()) as unknown
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) =>
      expect(parsed(ownError("B24RMQ_X", text))).toEqual({ error: "B24RMQ_X", error_description: text.toWellFormed() })
    )
  )
  expect(parsed(rejection(new Rejected({ code: "B24RMQ_X", description: "why" })).body)).toEqual({
    error: "B24RMQ_X",
    error_description: "why"
  })
  expect(parsed(tooLarge(200))).toMatchObject({ error: "B24RMQ_ANSWER_TOO_LARGE" })
})
