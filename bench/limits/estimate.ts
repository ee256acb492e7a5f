import { Effect, Schema } from "effect"
import { Report as Status } from "../../src/watch/cause.ts"
import { publishAll, requests } from "../../test/rig/producer.ts"
import type { Report } from "./report.ts"
import { lastAnswer, queueIn, scene, wrongs } from "./scene.ts"
import { median } from "./witness.ts"

/** How often the status is asked for, in milliseconds. */
const every = 250

/** A fifth of what is left, and what an estimate in whole seconds cannot tell. */
const tolerance = (left: number) => 0.2 * left + 500

/** When the backlog will be through, as the bridge says while it works it off under the cloud's limits. */
export const estimates = (run: string, count: number, isWrite: (n: number) => boolean) =>
  Effect.gen(function* () {
    const { broker, answers, start } = yield* scene({ latency: 5, limits: "cloud" })
    const sent = requests(count, (n) =>
      isWrite(n) ? { method: "crm.lead.add", params: { fields: { TITLE: `Lead ${n}` } } } : { method: "crm.deal.list" }
    )
    yield* publishAll(broker.url, queueIn, sent)
    const bridge = yield* start({ B24RMQ_RATE: "2/50" })
    const { fields } = yield* bridge.waitForLine("socket-open")
    const unix = String(fields?.["socket"])
    const ask = Effect.promise(() => fetch("http://b24rmq/status", { unix }).then((response) => response.json()))
    const told: Array<{ readonly at: number; readonly left: number; readonly seconds: number | null }> = []
    const look = Effect.gen(function* () {
      const { backlog } = Schema.decodeUnknownSync(Status)(yield* ask)
      told.push({ at: performance.now(), left: backlog.left, seconds: backlog.seconds })
      yield* Effect.sleep(every)
    })
    const began = performance.now()
    const got = yield* Effect.raceFirst(answers.has(count, "15 minutes"), Effect.forever(look))
    const end = lastAnswer(got)
    const during = told.filter(({ at }) => at < end)
    const errors = during.map(({ at, seconds }) => {
      const left = end - at
      return { left, wrong: Math.abs((seconds ?? 0) * 1_000 - left) }
    })
    const isWrong = errors.filter(({ left, wrong }) => wrong > tolerance(left)).length
    const { unanswered, twice, notDone } = wrongs(sent, got)
    const report: Report = {
      experiment: "estimate",
      run,
      figures: {
        requests: count,
        "took s": (end - began) / 1_000,
        estimates: errors.length,
        "wrong by more than a fifth": isWrong,
        "median error %": 100 * median(errors.map(({ left, wrong }) => wrong / left)),
        "first s": during[0]?.seconds ?? -1,
        "left at first s": (end - (during[0]?.at ?? end)) / 1_000
      },
      targets: [
        { what: "estimates wrong by more than a fifth, %", measured: (100 * isWrong) / errors.length, atMost: 10 },
        { what: "not answered once", measured: unanswered + twice + notDone, atMost: 0 }
      ]
    }
    return report
  }).pipe(Effect.scoped)

export const estimateRuns = (scale: number) => [
  estimates("5,000 reads, packed", Math.round(5_000 * scale), () => false),
  estimates("5,000, each twentieth a write", Math.round(5_000 * scale), (n) => n % 20 === 0)
]
