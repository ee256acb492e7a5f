import type { Status } from "../../src/watch/status.ts"

const nothing = { answers: 0, refused: 0, half: null, most: null }

/** A bridge that is well and has nothing to do. */
export const idle: Status = {
  version: "1.0.0",
  at: 1_000_000,
  since: 0,
  settings: {
    in: ["bitrix24in"],
    out: "bitrix24out",
    portal: "example.bitrix24.com",
    rate: "auto",
    concurrency: 16,
    pack: "reads",
    logLevel: "info",
    prefetch: 1_000,
    declare: true
  },
  broker: { up: true, since: 0, reason: null, blocked: null, history: [{ at: 0, what: "up", reason: null, times: 1 }] },
  intake: {
    wanted: "taking",
    consuming: true,
    queues: [{ queue: "bitrix24in", consuming: true, trouble: null, taken: 0, ready: 0 }],
    open: 0,
    oldest: null
  },
  answers: { queue: "bitrix24out", ready: 0, closed: null, trouble: null },
  portal: { health: "well", since: 0, reason: null, accountBlocked: false },
  inFlight: { calls: 0, requests: 0, allowed: 16, takes: null },
  waiting: [],
  rate: { perSecond: 2, depth: 50, level: 0, pausedUntil: null },
  budgets: [],
  parked: { state: "open", count: 0 },
  journal: { kind: "file", state: "ready", reason: null },
  stalls: [],
  paused: null,
  backlog: { left: 0, known: true, seconds: null },
  pace: {
    answers: 0,
    outcomes: { done: 0, refused: 0, unknown: 0, rejected: 0 },
    moment: nothing,
    minute: nothing,
    hour: nothing
  },
  refusals: [],
  refusedCredentials: [],
  errors: []
}
