import { Effect } from "effect"
import { type Message, publishAll, queueRequest } from "../../test/rig/producer.ts"
import { leastTime } from "./rate.ts"
import type { Report } from "./report.ts"
import { lastAnswer, queueIn, scene, wrongs } from "./scene.ts"
import { sizes } from "./witness.ts"

/** A heavy and a light method under an operating limit that bites. */
export interface OperatingRun {
  /** Of each of the two. */
  readonly count: number
  readonly payer: "methods" | "batch"
  /** Milliseconds that one of them takes. */
  readonly heavy: number
  readonly light: number
  /** Seconds that a method may take in ten buckets, and the milliseconds of one bucket. */
  readonly limit: number
  readonly bucket: number
  readonly burst: number
  readonly fall: number
  readonly within: { readonly light: number; readonly heavy: number | undefined }
}

const heavy = () => queueRequest({ method: "crm.item.list", params: { entityTypeId: "2" } })
const light = () => queueRequest({ method: "crm.deal.list" })

const run = (options: OperatingRun, sent: ReadonlyArray<Message>) =>
  Effect.gen(function* () {
    const { payer, limit, bucket, burst, fall } = options
    const { broker, portal, seen, answers, start } = yield* scene({
      latency: { "crm.item.list": options.heavy, "*": options.light },
      limits: {
        rate: { burst, fall },
        operating: { state: "on", limit, bucket, payer }
      }
    })
    yield* publishAll(broker.url, queueIn, sent)
    yield* start({ B24RMQ_RATE: `${fall}/${burst}` })
    const got = yield* answers.has(sent.length, "25 minutes")
    const [first = 0] = seen.arrivals
    return {
      seen,
      got,
      closed: portal.refusals.get("OPERATION_TIME_LIMIT") ?? 0,
      tooMany: seen.refusals.length,
      took: (messages: ReadonlyArray<Message>) => lastAnswer(got, messages) - first
    }
  }).pipe(Effect.scoped)

/** The light ones alone, then both interleaved. */
export const underOperating = (options: OperatingRun) =>
  Effect.gen(function* () {
    const { count, payer, limit, bucket, burst, fall } = options
    const alone = Array.from({ length: count }, light)
    const before = yield* run(options, alone)
    const lightAlone = before.took(alone)

    const both = Array.from({ length: count }, () => [heavy(), light()] as const)
    const sent = both.flat()
    const { seen, got, closed, tooMany, took } = yield* run(options, sent)
    const lightBoth = took(both.map(([, one]) => one))
    const heavyBoth = took(both.map(([one]) => one))
    const work = (count * options.heavy) / 1_000
    const window = (10 * bucket) / 1_000
    const windows = Math.ceil(work / limit)
    const byBudget = (windows - 1) * window
    const byRate = leastTime(Math.ceil(count / 50), burst, fall) / 1_000
    const allowed = Math.max(byBudget, byRate)
    const { unanswered, twice, notDone, sawLimits } = wrongs(sent, got)
    const report: Report = {
      experiment: "operating",
      run: payer === "methods" ? "the methods pay" : "batch pays",
      figures: {
        requests: sent.length,
        "heavy ms": options.heavy,
        "light ms": options.light,
        "limit s": limit,
        "window s": window,
        formula: `heavy: ${count} x ${options.heavy} ms = ${work} s, ${limit} s in ${window} s: (ceil(${work}/${limit}) - 1) x ${window} s = ${byBudget} s; by rate ${byRate} s`,
        "light alone s": lightAlone / 1_000,
        "light s": lightBoth / 1_000,
        "heavy s": heavyBoth / 1_000,
        "heavy allowed s": allowed,
        "HTTP requests": seen.arrivals.length,
        sizes: sizes(seen),
        "429": closed,
        "503": tooMany
      },
      targets: [
        { what: "light beside heavy to light alone", measured: lightBoth / lightAlone, atMost: options.within.light },
        ...(options.within.heavy === undefined
          ? []
          : [
              {
                what: "heavy to what the budget allows",
                measured: heavyBoth / 1_000 / allowed,
                atMost: options.within.heavy
              }
            ]),
        { what: "429s in a hundred requests", measured: (closed * 100) / sent.length, atMost: 1 },
        { what: "not answered once and done", measured: unanswered + twice + notDone, atMost: 0 },
        { what: "answers with 429 or 503", measured: sawLimits, atMost: 0 }
      ]
    }
    return report
  })

/**
 * 3 calls a second after 10: the 5,000 light ones alone are 100 calls, 30 s. 600 of the heavy ones fit into a window of
 * 30 s, so 5,000 need nine windows.
 */
export const operatingRuns = (scale: number): ReadonlyArray<OperatingRun> => {
  const common = {
    count: Math.round(5_000 * scale),
    heavy: 110,
    light: 2,
    limit: 66,
    bucket: 3_000,
    burst: 10,
    fall: 3
  }
  return [
    { ...common, payer: "methods", within: { light: 1.2, heavy: 1.15 } },
    { ...common, payer: "batch", within: { light: 2, heavy: undefined } }
  ]
}
