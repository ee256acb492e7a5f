import { Effect } from "effect"
import { declareQueues, publishAll, queueRequest, requests } from "../../test/rig/producer.ts"
import type { Report } from "./report.ts"
import { lastAnswer, queueIn, scene } from "./scene.ts"

export interface FairnessRun {
  /** What the busy producer has enqueued. */
  readonly crowd: number
  readonly burst: number
  readonly fall: number
  readonly command: number
  /** How many come beside the crowd. */
  readonly few: number
  /** Milliseconds in which each of the few is to be answered. */
  readonly within: number
}

const secondQueue = "bitrix24in2"

const sceneOf = ({ burst, fall, command }: FairnessRun) =>
  scene({ latency: command, limits: { rate: { burst, fall } } })
const rateOf = ({ burst, fall }: FairnessRun) => ({ B24RMQ_RATE: `${fall}/${burst}` })

/** A crowd in one queue, and a few who come by another: one after the other, each waits for its answer. */
export const twoQueues = (options: FairnessRun, user: string) =>
  Effect.gen(function* () {
    const { crowd, few, burst, within } = options
    const { broker, portal, answers, start, saw } = yield* sceneOf(options)
    yield* declareQueues(broker.url, { in: secondQueue })
    yield* publishAll(
      broker.url,
      queueIn,
      requests(crowd, () => ({ method: "crm.deal.list" }))
    )
    yield* start({ ...rateOf(options), AMPQIN: `${queueIn},${secondQueue}` })
    // From here on every call waits for the bucket.
    yield* saw("the whole burst", ({ requests }) => requests > burst)
    const times: Array<number> = []
    for (let n = 0; n < few; n++) {
      const one = queueRequest({ method: "crm.contact.list", user })
      const from = performance.now()
      yield* publishAll(broker.url, secondQueue, [one])
      const { at } = yield* answers.answerTo(one.id ?? "", "2 minutes")
      times.push(at - from)
    }
    const report: Report = {
      experiment: "fairness",
      run: `two queues, ${user === "1" ? "one credential" : "two credentials"}`,
      figures: {
        crowd,
        "of it answered": answers.answers.size - few,
        "ms each": times.map(Math.round).join(" "),
        refusals: portal.refusals.get("QUERY_LIMIT_EXCEEDED") ?? 0
      },
      targets: [
        { what: "slowest of the few, ms", measured: Math.max(...times), atMost: within },
        { what: "refusals", measured: portal.refusals.get("QUERY_LIMIT_EXCEEDED") ?? 0, atMost: 1 }
      ]
    }
    return report
  }).pipe(Effect.scoped)

/**
 * One queue, two credentials: the crowd fills most of the window, the few come behind it. In their order they would be
 * answered last; taken in turns they are answered while most of the crowd still waits.
 */
export const oneQueue = (options: FairnessRun) =>
  Effect.gen(function* () {
    const { few, burst } = options
    const { broker, answers, start, saw } = yield* sceneOf(options)
    // What the burst carries away, and nine tenths of the window.
    const crowd = requests(burst * 50 + 900, () => ({ method: "crm.deal.list" }))
    const others = requests(few, () => ({ method: "crm.contact.list", user: "2" }))
    yield* publishAll(broker.url, queueIn, crowd)
    yield* start(rateOf(options))
    yield* saw("the whole burst", ({ requests }) => requests > burst)
    const from = performance.now()
    yield* publishAll(broker.url, queueIn, others)
    yield* Effect.forEach(others, ({ id }) => answers.answerTo(id ?? "", "2 minutes"))
    const left = crowd.length - (answers.answers.size - few)
    const got = yield* answers.has(crowd.length + few, "5 minutes")
    const theirs = lastAnswer(got, others) - from
    const all = lastAnswer(got, crowd) - from
    const report: Report = {
      experiment: "fairness",
      run: "one queue, two credentials",
      figures: {
        "crowd before them": crowd.length,
        "of it still waiting when they were answered": left,
        "theirs ms": Math.round(theirs),
        "crowd ms": Math.round(all)
      },
      targets: [{ what: "the few, to the time of the crowd before them", measured: theirs / all, atMost: 0.5 }]
    }
    return report
  }).pipe(Effect.scoped)

export const fairness = (scale: number) => {
  const cloud = { crowd: Math.round(50_000 * scale), burst: 50, fall: 2, command: 10, few: 10, within: 2_000 }
  return Effect.all([twoQueues(cloud, "2"), twoQueues(cloud, "1"), oneQueue(cloud)])
}
