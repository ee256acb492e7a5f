import { Clock, Effect, Layer } from "effect"
import { Portal } from "../../src/portal/client.ts"
import { judge, type Outcome } from "../../src/portal/outcome.ts"
import type { Credential } from "../../src/sandbox/portal/credentials.ts"
import {
  type Ledger,
  type LimitOptions,
  limitsOf,
  OperatingSums,
  RateBuckets
} from "../../src/sandbox/portal/limits.ts"

/** How a portal is that takes time on the test clock alone. Times are milliseconds. */
export interface Manner {
  readonly limits: LimitOptions
  /** When in a second its bucket falls, if it does that in steps. */
  readonly phase: number
  /** The method of a request, by its number, and what each method takes. */
  readonly methodOf: (which: number) => string
  readonly takes: (method: string) => number
  /** To the portal, and back again. */
  readonly way: number
  /** Told of each call before it departs and before its answer is seen. */
  readonly departs: (at: number, members: ReadonlyArray<number>) => void
  readonly returns: (at: number, members: ReadonlyArray<number>) => void
}

/** What a portal has seen. */
export interface Record {
  readonly calls: Array<{ readonly at: number; readonly members: ReadonlyArray<number> }>
  /** The requests that were executed, one after the other. */
  readonly executed: Array<number>
  /** When it refused a call for the rate, and one request for its operating time. */
  readonly tooMany: Array<number>
  readonly tooLong: Array<number>
  mostInFlight: number
}

/** The number that a request bears in its parameters, by which it is known to the portal. */
export const parametersOf = (which: number, others = {}) => ({ n: String(which), ...others })

const numberIn = (text: string) => Number(/n(?:=|":")(\d+)/.exec(text)?.[1])

/** The portal is older than we are, and its clock is another one. */
const age = 1_000_000

/** A portal with the limits of the simulator, that answers each request with its number. It outlives the bridges that call it. */
export const portalOnClock = (manner: Manner) => {
  const { way, departs, returns } = manner
  const rules = limitsOf(manner.limits)
  const rate = new RateBuckets(rules.rate)
  rate.admits("us", manner.phase)
  const sums = new OperatingSums(rules.operating)
  const batchPays = rules.operating.payer === "batch"
  const record: Record = { calls: [], executed: [], tooMany: [], tooLong: [], mostInFlight: 0 }
  let inFlight = 0

  const answer = (status: number, body: object) => judge(status, Buffer.from(JSON.stringify(body)))
  const tooMany = { error: "QUERY_LIMIT_EXCEEDED", error_description: "Too many requests" }
  const tooLong = { error: "OPERATION_TIME_LIMIT", error_description: "" }

  const layer = Layer.effect(
    Portal,
    Effect.map(Clock.Clock, (clock) => {
      const now = () => clock.currentTimeMillisUnsafe()

      /** Runs the requests of a call one after the other, and says what is answered. */
      const execute = Effect.fnUntraced(function* (user: string, members: ReadonlyArray<number>, isBatch: boolean) {
        const credential = { kind: "webhook", user, secret: "s" } as unknown as Credential
        const ledger: Ledger = new Map()
        const began = now()
        const refuses = (method: string) => {
          const refused = sums.blocks(credential, method, ledger, now() + age)
          if (refused) record.tooLong.push(now())
          return refused
        }
        const timeOf = (method: string, took: number) => {
          const told = sums.operating(credential, method, ledger, now() + age)
          const sum = told === undefined ? {} : { operating: told.sum, operating_reset_at: told.resetAt }
          return { finish: (now() + age) / 1_000, processing: took / 1_000, ...sum }
        }
        const onBatch = isBatch && batchPays
        if (onBatch && refuses("batch")) return answer(429, tooLong)
        const frozen = timeOf("batch", 0)
        const result: { [key: string]: number } = {}
        const errors: { [key: string]: object } = {}
        const times: { [key: string]: object } = {}
        for (const [n, which] of members.entries()) {
          const method = manner.methodOf(which)
          const took = manner.takes(method)
          if (!onBatch && refuses(method)) {
            errors[`m${n}`] = tooLong
            continue
          }
          yield* Effect.sleep(took)
          record.executed.push(which)
          if (!onBatch) sums.note(ledger, method, took / 1_000)
          result[`m${n}`] = which
          times[`m${n}`] = onBatch ? { ...frozen, processing: took / 1_000 } : timeOf(method, took)
        }
        if (onBatch) sums.note(ledger, "batch", (now() - began) / 1_000)
        const time = timeOf("batch", now() - began)
        sums.book(credential, ledger, now() + age)
        if (isBatch) return answer(200, { result: { result, result_error: errors, result_time: times }, time })
        return "m0" in errors ? answer(429, tooLong) : answer(200, { result: result["m0"], time: times["m0"] })
      })

      return Portal.of({
        call: Effect.fnUntraced(function* ({ body, method, user }) {
          const text = Buffer.from(body).toString("utf8")
          const isBatch = method === "batch"
          const commands: ReadonlyArray<string> = isBatch ? Object.values(JSON.parse(text).cmd) : [text]
          const members = commands.map(numberIn)
          departs(now(), members)
          record.calls.push({ at: now(), members })
          record.mostInFlight = Math.max(record.mostInFlight, ++inFlight)
          yield* Effect.sleep(way)
          let outcome: Outcome
          if (rate.admits("us", now() + age)) outcome = yield* execute(user, members, isBatch)
          else {
            record.tooMany.push(now())
            outcome = answer(503, tooMany)
          }
          yield* Effect.sleep(way)
          returns(now(), members)
          inFlight--
          return outcome
        }),
        probe: Effect.die("a portal that always answers is not probed")
      })
    })
  )
  return { layer, record }
}
