import { Effect, Schedule } from "effect"
import { connect } from "amqplib"
import { requests } from "../../test/rig/producer.ts"
import { plain } from "./latency.ts"
import type { Report } from "./report.ts"
import { queueIn, scene, wrongs } from "./scene.ts"
import { median, quantile } from "./witness.ts"

/** One request after the other while nothing else is to do: what the bridge adds to the portal's own time. */
const oneByOne = (count: number, every: number, program: "bridge" | "plain", within: number) =>
  Effect.gen(function* () {
    const { broker, portal, seen, answers, start } = yield* scene()
    yield* start({}, program === "plain" ? { program: plain } : {})
    const sent = requests(count + 1, () => ({ method: "crm.deal.list" }))
    const link = yield* Effect.acquireRelease(
      Effect.promise(() => connect(broker.url, { noDelay: true })),
      (link) => Effect.promise(() => link.close())
    )
    const channel = yield* Effect.promise(() => link.createChannel())
    const times: Array<number> = []
    const send = Effect.sync(() => {
      const message = sent[times.length]
      if (message === undefined) return
      times.push(performance.now())
      channel.sendToQueue(queueIn, message.content, message.options)
    })
    // The first opens the connection to the portal and is not counted.
    yield* send
    yield* answers.has(1)
    yield* Effect.repeat(send, { schedule: Schedule.fixed(every), times: count - 1 })
    const got = yield* answers.has(count + 1)
    const added = sent.slice(1).map(({ id }, index) => {
      const [answer] = got.get(id ?? "") ?? []
      return (answer?.at ?? Number.NaN) - (times[index + 1] ?? Number.NaN) - (seen.own[index + 1] ?? Number.NaN)
    })
    const { unanswered, twice, notDone } = wrongs(sent, got)
    const report: Report = {
      experiment: "idle",
      run: `${program}, one each ${every} ms`,
      figures: {
        requests: count,
        "portal's own p50 ms": median(seen.own),
        "added p50 ms": median(added),
        "added p90 ms": quantile(added, 0.9),
        "added p99 ms": quantile(added, 0.99),
        "added most ms": Math.max(...added),
        "in flight": portal.maxInFlight
      },
      targets: [
        ...(program === "plain" ? [] : [{ what: "added p50 ms", measured: median(added), atMost: within }]),
        { what: "not answered once", measured: unanswered + twice + (program === "plain" ? 0 : notDone), atMost: 0 }
      ]
    }
    return report
  }).pipe(Effect.scoped)

/** The bridge, and beside it what broker and network take from a program that does nothing else. */
export const idle = (count: number, every: number, within = 3) =>
  Effect.all([oneByOne(count, every, "bridge", within), oneByOne(count, every, "plain", within)])
