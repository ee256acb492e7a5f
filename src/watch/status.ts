import { Schema } from "effect"

/**
 * What an operator sees of the bridge: one shape for the socket, the page, the command line and the log. Times are
 * milliseconds since 1970, lengths of time are seconds. Credentials are a user id and the first eight hexadecimal digits
 * of the token's SHA-256. Null: not known, or none.
 */

const maybe = <S extends Schema.Top>(schema: S) => Schema.NullOr(schema)
const list = <S extends Schema.Top>(schema: S) => Schema.Array(schema)
const { Number: number, String: string, Boolean: boolean } = Schema

const Sum = Schema.Struct({
  answers: number,
  refused: number,
  /** Seconds from its arrival to its answer's confirm for half of them, and for 95 of 100. */
  half: maybe(number),
  most: maybe(number)
})

const Refusal = Schema.Struct({
  at: number,
  times: number,
  code: string,
  method: maybe(string),
  credential: maybe(string),
  messageId: maybe(string)
})

export type Refusal = typeof Refusal.Type

/** Five seconds of the last hour, and when they began. */
export const Point = Schema.Struct({ at: number, sum: Sum })

export const Status = Schema.Struct({
  version: string,
  /** The moment that all this is about, and the start of the process. */
  at: number,
  since: number,
  settings: Schema.Struct({
    in: list(string),
    out: string,
    portal: string,
    rate: string,
    concurrency: number,
    pack: string,
    logLevel: string,
    prefetch: number,
    declare: boolean
  }),
  broker: Schema.Struct({
    up: boolean,
    since: maybe(number),
    /** Why it is down, or takes no messages. */
    reason: maybe(string),
    blocked: maybe(string),
    history: list(
      Schema.Struct({
        at: number,
        what: Schema.Literals(["up", "failed", "lost", "blocked", "unblocked"]),
        reason: maybe(string),
        times: number
      })
    )
  }),
  intake: Schema.Struct({
    /** `holding` and `returning`: nothing is to be taken now, for the portal, the journal or the operator. */
    wanted: Schema.Literals(["taking", "holding", "returning"]),
    consuming: boolean,
    queues: list(
      Schema.Struct({
        queue: string,
        consuming: boolean,
        trouble: maybe(
          Schema.Struct({
            event: Schema.Literals(["channel-lost", "queue-missing", "consumer-cancelled"]),
            reason: string
          })
        ),
        taken: number,
        /** Messages that lie in it. */
        ready: maybe(number)
      })
    ),
    /** Deliveries that are not acknowledged, and when the oldest came. */
    open: number,
    oldest: maybe(number)
  }),
  answers: Schema.Struct({
    queue: string,
    ready: maybe(number),
    /** Why answers cannot go out. */
    closed: maybe(string),
    trouble: maybe(Schema.Struct({ kind: Schema.Literals(["missing", "full", "channel"]), reason: string }))
  }),
  portal: Schema.Struct({
    health: Schema.Literals(["well", "suspect", "away"]),
    since: number,
    reason: maybe(string),
    accountBlocked: boolean
  }),
  inFlight: Schema.Struct({ calls: number, requests: number, allowed: number, takes: maybe(number) }),
  waiting: list(
    Schema.Struct({
      reason: Schema.Literals([
        "pause",
        "broker",
        "portal unavailable",
        "journal",
        "rate",
        "operating time",
        "concurrency",
        "order",
        "repetition",
        "company"
      ]),
      count: number,
      since: number,
      until: maybe(number)
    })
  ),
  /** The portal's rate: what is believed to be its bucket. Null where no limit is known. */
  rate: Schema.Struct({
    perSecond: maybe(number),
    depth: maybe(number),
    level: number,
    pausedUntil: maybe(number)
  }),
  /** Operating time by credential and method, the scarcest first. */
  budgets: list(
    Schema.Struct({
      credential: string,
      method: string,
      used: number,
      allowed: maybe(number),
      cost: number,
      resetAt: maybe(number),
      closedUntil: maybe(number),
      waiting: number
    })
  ),
  parked: Schema.Struct({ state: Schema.Literals(["opening", "open", "absent"]), count: number }),
  journal: Schema.Struct({
    kind: Schema.Literals(["off", "file", "postgres"]),
    state: Schema.Literals(["opening", "ready", "standby", "failed"]),
    reason: maybe(string)
  }),
  /** What should move and does not. */
  stalls: list(Schema.Struct({ part: string, what: string })),
  /** Since when the operator's pause lasts. */
  paused: maybe(number),
  backlog: Schema.Struct({
    /** Requests that are not answered: in the queues, parked, and here. */
    left: number,
    /** False while a queue's depth is not known. */
    known: boolean,
    /** Seconds until the last of them is answered; null while nothing moves. */
    seconds: maybe(number)
  }),
  pace: Schema.Struct({
    /** Answers since the start. */
    answers: number,
    outcomes: Schema.Struct({ done: number, refused: number, unknown: number, rejected: number }),
    moment: Sum,
    minute: Sum,
    hour: Sum
  }),
  refusals: list(Refusal),
  /** Credentials that were refused and not accepted since. */
  refusedCredentials: list(Refusal),
  /** The last events of the log that a person should look at. */
  errors: list(Schema.Struct({ at: number, times: number, level: string, event: string, text: string }))
})

export type Status = typeof Status.Type
