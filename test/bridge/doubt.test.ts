import { expect } from "bun:test"
import { Clock, Duration, Effect, Fiber, Redacted } from "effect"
import { TestClock } from "effect/testing"
import fc from "fast-check"
import { type Means, type Doubt, ended, resolve } from "../../src/bridge/doubt.ts"
import type { Reply } from "../../src/bridge/room.ts"
import type { Request } from "../../src/message/request.ts"
import { Done, type FinalOutcome, Refused, Unknown } from "../../src/portal/outcome.ts"
import { remedyFor } from "../../src/portal/remedies.ts"
import { effect } from "../effect.ts"

const portalLimit = Duration.seconds(60)
const tooOld: Means["tooOld"] = (attempts) =>
  Effect.succeed({ outcome: "rejected", body: Buffer.from("{}"), status: undefined, attempts })
const pause: Means["pause"] = (duration) => Effect.as(Effect.sleep(duration), true)

const requestOf = (method: string, parameters: unknown): Request => ({
  id: "id",
  messageId: "m-1",
  correlationId: undefined,
  method,
  user: "1",
  token: Redacted.make("secret"),
  credential: "1#0",
  body: Buffer.from(JSON.stringify(parameters)),
  parameters,
  order: undefined
})

const deal = requestOf("crm.deal.add", { fields: { ORIGIN_ID: "m-1" } })
const update = requestOf("crm.deal.update", { id: 1, fields: { TITLE: "a" } })
const comment = requestOf("crm.timeline.comment.add", { fields: { COMMENT: "a" } })

const doubtOf = (request: Request, more: Partial<Doubt> = {}, third = false): Doubt => ({
  request,
  remedy: remedyFor(request, [], third),
  sentAt: 0,
  latestStart: more.sentAt ?? 0,
  inherited: false,
  attempts: 1,
  reason: "ECONNRESET",
  status: undefined,
  packed: false,
  ...more
})

const done = (body: unknown) => Done({ status: 200, body: Buffer.from(JSON.stringify(body)), time: undefined })
const lost = Unknown({ reason: "ECONNRESET", status: undefined, silent: true, timedOut: false })
const notFound = Refused({
  status: 400,
  body: Buffer.from('{"error":"","error_description":"Not found"}'),
  code: "",
  alarm: undefined
})
const sent = (outcome: FinalOutcome, endedAt = 0): Reply => ({
  _tag: "Sent",
  outcome,
  attempts: 1,
  packed: false,
  sentAt: 0,
  endedAt
})
const notSent: Reply = { _tag: "NotSent", reason: "the bridge stops" }

/** Answers one after another, and notes at which second of the test's clock it was asked for what. */
const script = (...replies: ReadonlyArray<Reply>) => {
  const asked: Array<readonly [second: number, method: string, isRead: boolean]> = []
  const sizes: Array<number | undefined> = []
  const left = [...replies]
  const ask: Means["ask"] = (request, isRead, most) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      asked.push([now / 1_000, request.method, isRead])
      sizes.push(most)
      const reply = left.shift()
      if (reply === undefined) throw new Error("asked once too often")
      return reply._tag === "Sent" ? { ...reply, endedAt: now } : reply
    })
  return { ask, asked, sizes }
}

const resolving = Effect.fnUntraced(function* (doubt: Doubt, ...replies: ReadonlyArray<Reply>) {
  const { ask, asked, sizes } = script(...replies)
  const fiber = yield* Effect.forkChild(resolve(doubt, { portalLimit, pause, ask, tooOld }), { startImmediately: true })
  yield* TestClock.adjust("1 hour")
  return { answer: yield* Fiber.join(fiber), asked, sizes }
})

effect("a look-up and a repeat wait for the portal's limit after the sending", () =>
  Effect.gen(function* () {
    yield* TestClock.adjust("10 seconds")
    const looked = yield* resolving(doubtOf(deal), sent(done({ result: [] })), sent(done({ result: 7 })))
    expect(looked.asked).toEqual([
      [60, "crm.deal.list", true],
      [60, "crm.deal.add", false]
    ])
    expect(looked.answer).toMatchObject({ outcome: "done", attempts: 2, resolved: "repeated" })
  })
)

effect("after a restart they wait in full, and so they do when the clock was set back", () =>
  Effect.gen(function* () {
    yield* TestClock.adjust("1 day")
    const repeated = yield* resolving(doubtOf(update, { inherited: true }), sent(done({ result: true })))
    expect(repeated.asked).toEqual([[86_460, "crm.deal.update", false]])
    const { asked } = yield* resolving(doubtOf(update, { sentAt: 999e9 }), sent(done({ result: true })))
    expect(asked).toEqual([[86_400 + 3_600 + 60, "crm.deal.update", false]])
  })
)

effect("a repeat that is in doubt itself waits anew, and goes in a smaller batch", () =>
  Effect.gen(function* () {
    const { answer, asked, sizes } = yield* resolving(doubtOf(update), sent(lost), sent(lost), sent(notFound))
    expect(asked.map(([second]) => second)).toEqual([60, 120, 180])
    expect(sizes).toEqual([25, 12, 6])
    expect(answer).toMatchObject({ outcome: "refused", attempts: 4, resolved: "repeated" })
    const creating = yield* resolving(
      doubtOf(deal),
      sent(done({ result: [] })),
      sent(lost),
      sent(done({ result: [{ ID: "5", ORIGIN_ID: "m-1", DATE_CREATE: "1970-01-01T00:01:01Z" }] }))
    )
    expect(creating.answer).toMatchObject({ outcome: "done", attempts: 2, resolved: "found" })
  })
)

effect("what another bridge has taken up meanwhile is left to the journal", () =>
  Effect.gen(function* () {
    const { ask } = script({ _tag: "NotSent", reason: "overtaken" })
    const fiber = yield* Effect.forkChild(Effect.flip(resolve(doubtOf(update), { portalLimit, pause, ask, tooOld })), {
      startImmediately: true
    })
    yield* TestClock.adjust("1 minute")
    expect((yield* Fiber.join(fiber))._tag).toBe("TakenUp")
  })
)

effect("a doubt that was sent once more before a restart: what either sending made is found", () =>
  Effect.gen(function* () {
    yield* TestClock.adjust("1 hour")
    const twice = { sentAt: 0, latestStart: 3_000_000, inherited: true }
    for (const made of ["1970-01-01T00:00:30Z", "1970-01-01T00:50:30Z"]) {
      const rows = [{ ID: "5", ORIGIN_ID: "m-1", DATE_CREATE: made }]
      const { answer, asked } = yield* resolving(doubtOf(deal, twice), sent(done({ result: rows })))
      expect([answer?.resolved, asked.length]).toEqual(["found", 1])
    }
  })
)

effect("what nothing proves is told at once; what follows it waits all the same", () =>
  Effect.gen(function* () {
    const doubt = doubtOf(comment, { sentAt: Date.parse("2026-09-21T14:13:20.7Z"), packed: true, status: 502 })
    const answer = yield* resolve(doubt, { portalLimit, pause, ask: script().ask, tooOld })
    expect(answer).toMatchObject({ outcome: "unknown", attempts: 1, status: 502, packed: true })
    expect(JSON.parse(Buffer.from(answer?.body ?? []).toString())).toEqual({
      error: "B24RMQ_OUTCOME_UNKNOWN",
      error_description:
        "crm.timeline.comment.add was sent at 2026-09-21T14:13:20Z, and no answer came (ECONNRESET). It may or may not have been executed: look in the portal whether it was created before you send it again with a new message_id."
    })
    const successor = yield* Effect.forkChild(ended(doubtOf(comment), { portalLimit, pause }), {
      startImmediately: true
    })
    yield* TestClock.adjust("59999 millis")
    expect(successor.pollUnsafe()).toBeUndefined()
    yield* TestClock.adjust("1 millis")
    yield* Fiber.join(successor)
  })
)

effect("a stop or a lost delivery leaves the doubt as it is", () =>
  Effect.gen(function* () {
    expect((yield* resolving(doubtOf(deal), notSent)).answer).toBeUndefined()
    expect((yield* resolving(doubtOf(deal), sent(done({ result: [] })), notSent)).answer).toBeUndefined()
    expect((yield* resolving(doubtOf(update), notSent)).answer).toBeUndefined()
  })
)

effect("what is too old is not sent again: it was not executed, or nobody knows", () =>
  Effect.gen(function* () {
    const tooLate: Reply = { _tag: "Expired", attempts: 0 }
    const created = sent(done({ result: [{ ID: "5", ORIGIN_ID: "m-1", DATE_CREATE: "1970-01-01T00:00:01Z" }] }))
    expect((yield* resolving(doubtOf(deal), created)).answer).toMatchObject({ outcome: "done", resolved: "found" })
    const missing = yield* resolving(doubtOf(deal, { attempts: 2 }), sent(done({ result: [] })), tooLate)
    expect(missing.answer).toMatchObject({ outcome: "rejected", attempts: 2 })
    const { answer } = yield* resolving(doubtOf(update), tooLate)
    expect(answer?.outcome).toBe("unknown")
    expect(Buffer.from(answer?.body ?? []).toString()).toContain("It is too old to be sent again (B24RMQ_MAX_AGE).")
  })
)

effect("a key is not relied upon when the portal has forgotten it", () =>
  Effect.gen(function* () {
    yield* TestClock.adjust("22 hours")
    const add = requestOf("tasks.task.add", { fields: { title: "a" } })
    const inTime = yield* resolving(doubtOf(add, { inherited: true }, true), sent(done({ result: {} })))
    expect(inTime.answer?.outcome).toBe("done")
    const { answer, asked } = yield* resolving(doubtOf(add, { inherited: true }, true))
    expect([answer?.outcome, asked]).toEqual(["unknown", []])
    expect(Buffer.from(answer?.body ?? []).toString()).toContain("would have recognised it has passed")
  })
)

effect("no answer repeats a token", () =>
  Effect.gen(function* () {
    const { answer } = yield* resolving(doubtOf(deal), sent(lost))
    expect(JSON.stringify(answer) + Buffer.from(answer?.body ?? []).toString()).not.toContain("secret")
  })
)

/** A portal in memory that runs some of what it is sent and loses some of the answers, by chance. */
const portalOf = (fates: ReadonlyArray<"answered" | "executed" | "dropped">) => {
  const rows: Array<{ readonly ID: string; readonly ORIGIN_ID: string; readonly DATE_CREATE: string }> = []
  let nth = 0
  const ask: Means["ask"] = (_, isRead) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      if (isRead) return sent(done({ result: rows, time: { finish: 0 } }))
      const fate = fates[nth++] ?? "answered"
      if (fate !== "dropped") {
        const ID = String(rows.length + 1)
        rows.unshift({ ID, ORIGIN_ID: "m-1", DATE_CREATE: new Date(now).toISOString() })
      }
      return sent(fate === "answered" ? done({ result: rows.length }) : lost, now)
    })
  return { ask, rows }
}

effect("whatever gets lost, a creator with a name is executed once, and never told a wrong end", () =>
  Effect.promise(() =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom("answered", "executed", "dropped" as const), { maxLength: 6 }),
        fc.boolean(),
        (fates, first) =>
          Effect.gen(function* () {
            const { ask, rows } = portalOf([first ? "executed" : "dropped", ...fates])
            yield* ask(deal, false)
            const fiber = yield* Effect.forkChild(resolve(doubtOf(deal), { portalLimit, pause, ask, tooOld }), {
              startImmediately: true
            })
            yield* TestClock.adjust("1 hour")
            const answer = yield* Fiber.join(fiber)
            expect(rows.length).toBeLessThanOrEqual(1)
            if (answer?.outcome === "done") {
              expect(rows.length).toBe(1)
              expect(JSON.parse(Buffer.from(answer.body).toString()).result).toBe(1)
            } else expect([answer?.outcome, rows.length]).toEqual(["unknown", 0])
          }).pipe(Effect.scoped, Effect.provide(TestClock.layer()), Effect.runPromise)
      ),
      { numRuns: 300 }
    )
  )
)
