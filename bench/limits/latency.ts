import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import { publishAll, requests } from "../../test/rig/producer.ts"
import type { Report } from "./report.ts"
import { lastAnswer, queueIn, scene, wrongs } from "./scene.ts"
import { sizes } from "./witness.ts"

/** The plain program to compare with. */
export const plain = [process.execPath, fileURLToPath(new URL("../rivals/plain.ts", import.meta.url))] as const

export interface LatencyRun {
  readonly run: string
  readonly count: number
  /** Milliseconds that each command takes. */
  readonly command: number
  readonly concurrency: number
  readonly program?: "bridge" | "plain"
}

/** A portal that is slow and limits nothing. */
export const atLatency = ({ run, count, command, concurrency, program = "bridge" }: LatencyRun) =>
  Effect.gen(function* () {
    const { broker, portal, seen, answers, start } = yield* scene({ latency: command })
    const sent = requests(count, () => ({ method: "crm.deal.list" }))
    yield* publishAll(broker.url, queueIn, sent)
    const isPlain = program === "plain"
    yield* start(
      isPlain ? { PREFETCH: `${concurrency}` } : { B24RMQ_CONCURRENCY: `${concurrency}` },
      isPlain ? { program: plain } : {}
    )
    const got = yield* answers.has(count, "25 minutes")
    const [first = 0] = seen.arrivals
    const took = lastAnswer(got) - first
    const least = (count * command) / concurrency
    const { unanswered, twice, notDone } = wrongs(sent, got)
    const report: Report = {
      experiment: "latency",
      run,
      figures: {
        requests: count,
        "command ms": command,
        "took s": took / 1_000,
        "least s": least / 1_000,
        "HTTP requests": seen.arrivals.length,
        sizes: sizes(seen),
        "in flight": portal.maxInFlight
      },
      targets: [
        { what: "calls in flight", measured: portal.maxInFlight, atMost: concurrency },
        { what: "not answered once and done", measured: unanswered + twice + (isPlain ? 0 : notDone), atMost: 0 }
      ]
    }
    return { report, took, least }
  }).pipe(Effect.scoped)

/** The situation of the original, with the defaults; then as many calls at once as the plain program makes. */
export const latency = (scale: number) =>
  Effect.gen(function* () {
    const count = Math.round(10_000 * scale)
    const usual = yield* atLatency({ run: "the defaults", count, command: 100, concurrency: 16 })
    const many = yield* atLatency({ run: "50 calls at once", count, command: 100, concurrency: 50 })
    const rival = yield* atLatency({
      run: "plain amqplib and fetch, prefetch 50",
      count,
      command: 100,
      concurrency: 50,
      program: "plain"
    })
    const withTarget = (report: Report, what: string, measured: number, atMost: number): Report => ({
      ...report,
      targets: [{ what, measured, atMost }, ...report.targets]
    })
    return [
      withTarget(usual.report, "time to the least", usual.took / usual.least, 1.15),
      withTarget(many.report, "time to the plain program's", many.took / rival.took, 1),
      rival.report
    ]
  })
