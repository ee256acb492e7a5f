import { Effect } from "effect"
import { publishAll, requests } from "../../test/rig/producer.ts"
import type { Report, Target } from "./report.ts"
import { lastAnswer, packed, queueIn, scene, wrongs } from "./scene.ts"
import { events, longestGap, sizes, type Witness } from "./witness.ts"

/** What is asked of a portal that limits how often it may be asked. */
export interface RateRun {
  readonly experiment: string
  readonly run: string
  readonly count: number
  /** The portal's bucket: `fall` leak out in each `period` of milliseconds. */
  readonly burst: number
  readonly fall: number
  readonly period?: number
  readonly stepwise?: boolean
  readonly countsRefused?: boolean
  /** What the bridge is told of it. */
  readonly told: "rate" | "auto"
  readonly pack: "reads" | "off"
  /** Seconds over which the requests are published; all are there before the bridge starts otherwise. */
  readonly over?: number
  /** Milliseconds that each command takes. */
  readonly command: number
  /** How many times the least possible time it may take. */
  readonly within: number
}

const concurrency = 16
const largestBatch = 50

/** Least possible milliseconds: after the burst, `fall` calls in each period. */
export const leastTime = (calls: number, burst: number, fall: number, period = 1_000) =>
  Math.ceil(Math.max(0, calls - burst) / fall) * period

/** Calls that the bucket would have let in until the last one came, and that nobody made. */
const unused = ({ arrivals, refusals }: Witness, { burst, fall, period = 1_000 }: RateRun): number => {
  const [first = 0] = arrivals
  const span = (arrivals.at(-1) ?? 0) - first
  return burst + fall * Math.floor(span / period) - (arrivals.length - refusals.length)
}

/** `crm.deal.list` of one credential against a portal that limits the rate, until all are answered. */
export const underRate = (options: RateRun) =>
  Effect.gen(function* () {
    const { count, burst, fall, period = 1_000, command, pack, told, within, over } = options
    const { broker, portal, seen, answers, start } = yield* scene({
      latency: command,
      limits: {
        rate: {
          burst,
          fall,
          period,
          stepwise: options.stepwise ?? true,
          countsRefused: options.countsRefused ?? false
        }
      }
    })
    const sent = requests(count, () => ({ method: "crm.deal.list" }))
    const env = {
      B24RMQ_RATE: told === "auto" ? "auto" : `${Math.round((fall * 1_000) / period)}/${burst}`,
      B24RMQ_PACK: pack,
      B24RMQ_CONCURRENCY: `${concurrency}`
    }
    if (over === undefined) yield* publishAll(broker.url, queueIn, sent)
    yield* start(env)
    if (over !== undefined) yield* publishAll(broker.url, queueIn, sent, { rate: count / over })
    const calls = pack === "off" ? count : Math.ceil(count / largestBatch)
    const least = leastTime(calls, burst, fall, period)
    const got = yield* answers.has(count, Math.max(60_000, 4 * least))
    const [first = 0] = seen.arrivals
    const took = lastAnswer(got) - first
    const learned = events(seen.refusals)
    const { unanswered, twice, notDone, sawLimits } = wrongs(sent, got)
    const refusals: Target =
      told === "auto"
        ? { what: "refusals in one event", measured: Math.max(0, ...learned), atMost: concurrency }
        : { what: "refusals", measured: seen.refusals.length, atMost: 1 }
    const report: Report = {
      experiment: options.experiment,
      run: options.run,
      figures: {
        requests: count,
        "command ms": command,
        "least s": least / 1_000,
        "took s": took / 1_000,
        "HTTP requests": seen.arrivals.length,
        refusals: seen.refusals.length,
        "refusals by event": learned.join(" "),
        sizes: sizes(seen),
        packed: packed(got),
        "unused calls": unused(seen, options),
        "longest gap ms": Math.round(longestGap(seen)),
        "in flight": portal.maxInFlight
      },
      targets: [
        { what: "time to the least", measured: took / least, atMost: within },
        refusals,
        { what: "not answered once and done", measured: unanswered + twice + notDone, atMost: 0 },
        { what: "answers with 429 or 503", measured: sawLimits, atMost: 0 }
      ]
    }
    return report
  }).pipe(Effect.scoped)

const cloud = { burst: 50, fall: 2 }
const enterprise = { burst: 250, fall: 5 }

/** The runs of an experiment; `scale` makes requests and burst smaller alike, and with them the time. */
export const rateRuns = (experiment: string, scale: number): ReadonlyArray<RateRun> => {
  const scaled = (count: number) => Math.max(1, Math.round(count * scale))
  const common = { command: 10, pack: "reads" as const, told: "rate" as const, within: 1.1 }
  const byName: Readonly<Record<string, ReadonlyArray<Omit<RateRun, "experiment">>>> = {
    cloud: [
      { ...common, ...cloud, run: "10,000 enqueued before", count: 10_000 },
      { ...common, ...cloud, run: "10,000 over 28 s", count: 10_000, over: 28 },
      { ...common, ...cloud, run: "10,000, the bucket falls evenly", count: 10_000, stepwise: false }
    ],
    auto: [
      { ...common, ...cloud, run: "cloud, nobody told", count: 10_000, told: "auto", within: 1.25 },
      {
        ...common,
        ...cloud,
        run: "cloud, nobody told, refusals count",
        count: 10_000,
        told: "auto",
        countsRefused: true,
        within: 1.25
      },
      { ...common, ...enterprise, run: "Enterprise, nobody told", count: 50_000, told: "auto", within: 1.25 }
    ],
    unpacked: [
      { ...common, ...cloud, run: "cloud, 500 one by one", count: 500, pack: "off", within: 1.05 },
      { ...common, ...enterprise, run: "Enterprise, 1,000 one by one", count: 1_000, pack: "off", within: 1.05 }
    ],
    enterprise: [
      { ...common, ...enterprise, run: "50,000 enqueued before", count: 50_000 },
      { ...common, ...enterprise, run: "50,000 over 60 s", count: 50_000, over: 60 }
    ]
  }
  const smaller = (run: Omit<RateRun, "experiment">): RateRun => ({
    ...run,
    experiment,
    count: scaled(run.count),
    burst: scaled(run.burst),
    ...(run.over === undefined ? {} : { over: run.over * scale })
  })
  return (byName[experiment] ?? []).map(smaller)
}
