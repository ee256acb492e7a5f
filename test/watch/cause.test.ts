import { expect, test } from "bun:test"
import { Schema } from "effect"
import { causeCodes, causeOf, causesOf } from "../../src/watch/cause.ts"
import { lengthOf } from "../../src/watch/length.ts"
import { Status } from "../../src/watch/status.ts"
import { idle } from "./sample.ts"

type Change = (status: Status) => Status

const queueTrouble =
  (event: "channel-lost" | "queue-missing" | "consumer-cancelled"): Change =>
  (status) => ({
    ...status,
    intake: {
      ...status.intake,
      consuming: false,
      queues: status.intake.queues.map(({ queue, taken }) => ({
        queue,
        consuming: false,
        trouble: { event, reason: "NOT_FOUND" },
        taken,
        ready: null
      }))
    }
  })

const answerTrouble =
  (kind: "missing" | "full" | "channel"): Change =>
  (status) => ({
    ...status,
    answers: { ...status.answers, closed: "it is closed", trouble: { kind, reason: "NO_ROUTE" } }
  })

const journal =
  (state: "standby" | "failed", reason: string | null): Change =>
  (status) => ({ ...status, journal: { ...status.journal, state, reason } })

const waits =
  (reason: Status["waiting"][number]["reason"], count: number): Change =>
  (status) => ({
    ...status,
    waiting: [...status.waiting, { reason, count, since: status.at - 5_000, until: null }],
    backlog: { left: 1_204, known: true, seconds: 240 },
    pace: { ...status.pace, minute: { ...status.pace.minute, answers: 312 } }
  })

const closedMethod: Change = (status) => ({
  ...status,
  budgets: [
    {
      credential: "1#abcd1234",
      method: "crm.item.list",
      used: 480,
      allowed: 480,
      cost: 1,
      resetAt: status.at + 90_000,
      closedUntil: status.at + 90_000,
      waiting: 3
    }
  ]
})

const refusedCredential: Change = (status) => ({
  ...status,
  refusedCredentials: [
    {
      at: status.at - 1_000,
      times: 2,
      code: "INVALID_CREDENTIALS",
      method: "crm.deal.list",
      credential: "1#abcd1234",
      messageId: null
    }
  ]
})

/** What makes each cause the one, in the order of their precedence. */
const changes: ReadonlyArray<readonly [code: string, change: Change, says: RegExp]> = [
  [
    "broker-down",
    (s) => ({ ...s, broker: { ...s.broker, up: false, since: s.at - 60_000, reason: "connect ECONNREFUSED" } }),
    /^no connection to the broker for 60 s \(connect ECONNREFUSED\): start RabbitMQ/
  ],
  ["standby", journal("standby", null), /^standing by/],
  ["paused", (s) => ({ ...s, paused: s.at - 120_000 }), /^paused by the operator for 2 min: the command resume/],
  [
    "broker-blocked",
    (s) => ({ ...s, broker: { ...s.broker, blocked: "low on memory" } }),
    /takes no messages \(low on memory\): free memory/
  ],
  ["answer-queue-missing", answerTrouble("missing"), /bitrix24out does not exist: create it/],
  ["answer-queue-full", answerTrouble("full"), /bitrix24out refuses messages: have its answers read/],
  ["answers-closed", answerTrouble("channel"), /published to bitrix24out \(NO_ROUTE\): give the user/],
  ["queue-missing", queueTrouble("queue-missing"), /bitrix24in does not exist: create it/],
  ["consumer-cancelled", queueTrouble("consumer-cancelled"), /cancelled the consumer of bitrix24in: see/],
  ["cannot-consume", queueTrouble("channel-lost"), /taken from bitrix24in \(NOT_FOUND\): give the user/],
  [
    "account-blocked",
    (s) => ({ ...s, portal: { ...s.portal, health: "away", reason: "OVERLOAD_LIMIT", accountBlocked: true } }),
    /whole account \(OVERLOAD_LIMIT\): settle it/
  ],
  [
    "portal-down",
    (s) => ({ ...s, portal: { ...s.portal, health: "away", reason: "ECONNREFUSED" } }),
    /example.bitrix24.com does not answer for 17 min \(ECONNREFUSED\): see that it works/
  ],
  ["journal-full", journal("failed", "it has reached B24RMQ_JOURNAL_MAX, and"), /raise it/],
  ["journal-failed", journal("failed", "the disk is full: free some space"), /\(the disk is full: free some space\)/],
  [
    "stalled",
    (s) => ({ ...s, stalls: [{ part: "intake", what: "bitrix24in holds requests and brings none" }] }),
    /^work does not move \(bitrix24in holds requests and brings none\): a part is restarted by itself/
  ],
  ["credential-refused", refusedCredential, /the webhook 1#abcd1234 \(INVALID_CREDENTIALS\): create a new one/],
  [
    "not-consuming",
    (s) => ({ ...s, intake: { ...s.intake, consuming: false } }),
    /about to take requests from bitrix24in/
  ],
  [
    "method-closed",
    (s) => waits("operating time", 3)(closedMethod(s)),
    /^312\/min, crm.item.list waits for its operating time \(opens in 90 s\), 1,204 left, about 4 min: wait/
  ],
  ["rate-bound", waits("rate", 2), /^312\/min, waiting for rate, 1,204 left, about 4 min: the portal takes 2\/s/],
  ["working", waits("order", 1), /^312\/min, 1,204 left, about 4 min$/],
  ["idle", (s) => s, /^nothing to do: bitrix24in is empty; send requests/]
]

test("each cause is told by what makes it one", () => {
  expect(changes.map(([code]) => code)).toEqual([...causeCodes])
  for (const [code, change, says] of changes) {
    const status = change(idle)
    expect(Schema.is(Status)(status)).toBe(true)
    const cause = causeOf(status)
    expect(cause.code).toBe(code)
    expect(cause.en).toMatch(says)
    expect(cause.ru).toMatch(/[а-яё]/)
    for (const text of [cause.en, cause.ru]) expect(text).not.toMatch(/undefined|NaN|null|\n|\.$/)
  }
})

test("of two that hold the earlier one in the table is the cause, and the other is said besides", () => {
  for (const [n, [code, change]] of changes.entries()) {
    for (const [later, other] of changes.slice(n + 1)) {
      // The same field cannot say two things.
      const both = change(other(idle))
      expect([later, causeOf(both).code]).toEqual([later, code])
    }
  }
  const both = waits("rate", 2)(refusedCredential(idle))
  expect(causesOf(both).map(({ code }) => code)).toEqual(["credential-refused", "rate-bound"])
})

test("what most of those who wait are waiting for is the cause", () => {
  const some = (time: number, rate: number) =>
    causeOf(waits("rate", rate)(waits("operating time", time)(closedMethod(idle))))
  expect(some(3, 2).code).toBe("method-closed")
  expect(some(2, 3).code).toBe("rate-bound")
  const resting = { ...waits("rate", 2)(closedMethod(idle)), parked: { state: "open" as const, count: 40 } }
  expect(causeOf(resting).code).toBe("method-closed")
})

test("a refused credential that nobody uses any more is not the cause for ever", () => {
  const status = refusedCredential(idle)
  expect(causeOf({ ...status, at: status.at + 600_000 }).code).toBe("idle")
})

test("lengths of time read as people say them", () => {
  expect([0.2, 59, 100, 240, 5_999, 7_300, 200_000].map((s) => lengthOf(s, "en"))).toEqual([
    "1 s",
    "59 s",
    "2 min",
    "4 min",
    "100 min",
    "2 h",
    "2 d"
  ])
  expect(lengthOf(240, "ru")).toBe("4 мин")
})
