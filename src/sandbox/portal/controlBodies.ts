import { Result, Schema } from "effect"
import type { Value } from "./value.ts"

const flag = Schema.optionalKey(Schema.Boolean)
const positive = Schema.Finite.check(Schema.isGreaterThan(0))
const count = Schema.Int.check(Schema.isGreaterThan(0))
const ms = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))
const status = Schema.Int.check(Schema.isBetween({ minimum: 200, maximum: 599 }))

const json = Schema.declare((value: unknown): value is Value => value !== undefined)

const when = Schema.optionalKey(
  Schema.Struct({
    method: Schema.optionalKey(Schema.Union([Schema.String, Schema.Array(Schema.String)])),
    only: Schema.optionalKey(Schema.Literals(["reads", "writes"])),
    containing: Schema.optionalKey(Schema.String),
    every: Schema.optionalKey(count),
    probability: Schema.optionalKey(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))),
    seed: Schema.optionalKey(Schema.Int),
    next: Schema.optionalKey(count)
  })
)

const fault = Schema.Union([
  Schema.Struct({ kind: Schema.Literals(["html", "empty"]), status, executed: flag, when }),
  Schema.Struct({ kind: Schema.Literal("answer"), status, body: Schema.optionalKey(json), executed: flag, when }),
  Schema.Struct({ kind: Schema.Literals(["notJson", "reset", "close", "hang"]), executed: flag, when }),
  Schema.Struct({ kind: Schema.Literal("redirect"), to: Schema.String, executed: flag, when }),
  Schema.Struct({ kind: Schema.Literal("cut"), after: Schema.optionalKey(ms), chunked: flag, reset: flag, when }),
  Schema.Struct({ kind: Schema.Literal("trickle"), bytes: count, every: ms, when }),
  Schema.Struct({ kind: Schema.Literal("closeIdle"), after: ms, reset: flag, when }),
  Schema.Struct({ kind: Schema.Literals(["notUtf8", "gzip"]), when }),
  Schema.Struct({ kind: Schema.Literal("huge"), bytes: count, when }),
  Schema.Struct({ kind: Schema.Literals(["slow", "slowMethod"]), ms, when })
])

const limits = Schema.Struct({
  preset: Schema.optionalKey(Schema.Literals(["cloud", "enterprise", "box"])),
  rate: Schema.optionalKey(
    Schema.Struct({
      burst: Schema.optionalKey(ms),
      fall: Schema.optionalKey(ms),
      period: Schema.optionalKey(positive),
      stepwise: flag,
      countsRefused: flag
    })
  ),
  operating: Schema.optionalKey(
    Schema.Struct({
      state: Schema.optionalKey(Schema.Literals(["off", "unstored", "on"])),
      limit: Schema.optionalKey(positive),
      bucket: Schema.optionalKey(positive),
      threshold: Schema.optionalKey(ms),
      payer: Schema.optionalKey(Schema.Literals(["methods", "batch"])),
      ban: Schema.optionalKey(positive),
      cost: Schema.optionalKey(Schema.Record(Schema.String, ms))
    })
  ),
  time: Schema.optionalKey(
    Schema.Struct({
      after: Schema.optionalKey(positive),
      answer: Schema.optionalKey(Schema.Literals(["html", "close", "reset"])),
      goesOn: flag
    })
  )
})

const standing = Schema.Union([
  Schema.Literals(["good", "revoked", "expired", "dismissed", "tariff", "overload", "deleted", "noRights"]),
  Schema.Struct({ scope: Schema.Array(Schema.String) })
])

const credentials = Schema.Struct({
  standings: Schema.optionalKey(Schema.Record(Schema.String, standing)),
  onlyKnown: flag,
  revision: Schema.optionalKey(Schema.Literals(["earlier", "later"]))
})

/** Reads a body, or says in words what is wrong with it: a typing mistake must not become a fault that never strikes. */
const reading =
  <A>(schema: Schema.Decoder<A>) =>
  (body: unknown): Result.Result<A, string> =>
    Result.mapError(Schema.decodeUnknownResult(schema, { onExcessProperty: "error" })(body), String)

export const readFaults = reading(Schema.Union([fault, Schema.Array(fault)]))
export const readLimits = reading(limits)
export const readLatency = reading(Schema.Union([ms, Schema.Record(Schema.String, ms)]))
export const readCredentials = reading(credentials)
export const readDown = reading(Schema.Struct({ ms: positive }))
