import { Effect } from "effect"
import { publishAll, requests } from "../../test/rig/producer.ts"
import { plain } from "./latency.ts"
import type { Report } from "./report.ts"
import { lastAnswer, queueIn, scene, wrongs } from "./scene.ts"
import { median, sizes } from "./witness.ts"

const contestants = {
  "plain, prefetch 50": { env: { PREFETCH: "50" }, program: plain },
  "plain, prefetch 256": { env: { PREFETCH: "256" }, program: plain },
  "bridge, one by one": { env: { B24RMQ_PACK: "off" }, program: undefined },
  "bridge, packed": { env: { B24RMQ_PACK: "reads" }, program: undefined }
}

type Name = keyof typeof contestants

/** CPU seconds from the moment it consumes until all is answered. */
const once = (name: Name, count: number) =>
  Effect.gen(function* () {
    const { broker, seen, answers, start } = yield* scene()
    const { env, program } = contestants[name]
    const bridge = yield* start(env, program === undefined ? {} : { program })
    const sent = requests(count, () => ({ method: "crm.deal.list" }))
    const before = bridge.cpu()
    yield* publishAll(broker.url, queueIn, sent)
    const got = yield* answers.has(count, "5 minutes")
    const cpu = bridge.cpu() - before
    const [first = 0] = seen.arrivals
    const { unanswered, twice } = wrongs(sent, got)
    return {
      cpu,
      took: (lastAnswer(got) - first) / 1_000,
      memory: bridge.rss() / 1e6,
      wrong: unanswered + twice,
      calls: seen.arrivals.length,
      sizes: sizes(seen)
    }
  }).pipe(Effect.scoped)

/** What a request costs, beside the plain program: rounds of all contestants, one after the other. */
export const cpu = (scale: number, rounds = 5) =>
  Effect.gen(function* () {
    const count = Math.round(10_000 * scale)
    const names = Object.keys(contestants) as ReadonlyArray<Name>
    const results = new Map<Name, Array<Effect.Success<ReturnType<typeof once>>>>(names.map((name) => [name, []]))
    for (let round = 0; round < rounds; round++) {
      for (const name of names) results.get(name)?.push(yield* once(name, count))
    }
    const perTenThousand = (name: Name) => (median((results.get(name) ?? []).map(({ cpu }) => cpu)) * 10_000) / count
    const base = perTenThousand("plain, prefetch 50")
    return names.map((name): Report => {
      const all = results.get(name) ?? []
      return {
        experiment: "cpu",
        run: name,
        figures: {
          requests: count,
          rounds,
          "CPU s per 10,000": perTenThousand(name),
          "to plain, prefetch 50": perTenThousand(name) / base,
          "all rounds": all.map(({ cpu }) => cpu.toFixed(2)).join(" "),
          "took s": median(all.map(({ took }) => took)),
          "memory MB": median(all.map(({ memory }) => memory)),
          "HTTP requests": median(all.map(({ calls }) => calls)),
          sizes: all[0]?.sizes ?? ""
        },
        targets: [{ what: "not answered once", measured: all.reduce((sum, { wrong }) => sum + wrong, 0), atMost: 0 }]
      }
    })
  })
