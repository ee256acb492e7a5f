import { readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import { Effect } from "effect"
import { temporaryFolder } from "../../test/rig/child.ts"
import { startPostgres } from "../../test/rig/postgres.ts"
import { publishAll } from "../../test/rig/producer.ts"
import { lastAnswer, queueIn, scene, wrongs } from "../limits/scene.ts"
import { median } from "../limits/witness.ts"
import { creatorWithout } from "./load.ts"
import type { Row } from "./report.ts"

const journals = ["off", "file", "PostgreSQL"] as const
type JournalName = (typeof journals)[number]

const inFlight = 50

/** How much of the throughput without a journal may be lost by one in a file. */
const mayCost = 0.25

/** So many writes, from a full queue, by a portal that takes so many milliseconds for each. */
const once = (journal: string, count: number, latency: number, round: number) =>
  Effect.gen(function* () {
    const { broker, answers, portal, start } = yield* scene({ latency })
    const sent = Array.from({ length: count }, (_, index) => creatorWithout(`${round}.${index}`).message)
    yield* publishAll(broker.url, queueIn, sent)
    const bridge = yield* start({
      B24RMQ_JOURNAL: journal,
      B24RMQ_PACK: "off",
      B24RMQ_CONCURRENCY: `${inFlight}`
    })
    const [cpu, begun] = [bridge.cpu(), performance.now()]
    const got = yield* answers.has(count, "10 minutes")
    const { unanswered, twice, notDone } = wrongs(sent, got)
    return {
      rate: (1_000 * count) / (lastAnswer(got) - begun),
      cpu: ((bridge.cpu() - cpu) * 10_000) / count,
      wrong: unanswered + twice + notDone + Math.abs(portal.count("crm.deal.add") - count)
    }
  }).pipe(Effect.scoped)

/**
 * What the journal costs: writes a second and CPU time of the bridge without one, in a file, and in PostgreSQL, one after
 * the other and again, 50 calls in flight. `latency`: milliseconds that the portal takes; 0 leaves the bridge's own work.
 */
export const cost = (rounds: number, count: number, latency: number) =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("journal")
    const server = yield* startPostgres()
    const database = yield* server.database
    const places = { off: "off", file: join(folder, "journal"), PostgreSQL: database }
    const results = new Map(journals.map((name) => [name, [] as Array<Effect.Success<ReturnType<typeof once>>>]))
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < journals.length; turn++) {
        const name = journals[(round + turn) % journals.length] ?? "off"
        results.get(name)?.push(yield* once(places[name], count, latency, round))
      }
    }
    const bytes = {
      off: 0,
      file: readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0),
      PostgreSQL: Number(yield* server.psql(database, "SELECT pg_database_size(current_database())"))
    }
    const of = (name: JournalName, figure: "rate" | "cpu" | "wrong") =>
      (results.get(name) ?? []).map((one) => one[figure])
    const medianOf = (name: JournalName, figure: "rate" | "cpu") => median(of(name, figure))
    return journals.map((name): Row => {
      const wrong = of(name, "wrong").reduce((sum, count) => sum + count, 0)
      const share = medianOf(name, "rate") / medianOf("off", "rate")
      return {
        experiment: "cost",
        run: `${name}, portal takes ${latency} ms`,
        figures: {
          rounds,
          writes: rounds * count,
          "writes/s": Math.round(medianOf(name, "rate")),
          "to off": share.toFixed(2),
          "all rounds": of(name, "rate").map(Math.round).join(" "),
          "CPU s per 10,000": medianOf(name, "cpu").toFixed(2),
          "CPU to off": (medianOf(name, "cpu") / medianOf("off", "cpu")).toFixed(2),
          "MB on disk": (bytes[name] / 1e6).toFixed(1)
        },
        broken: [
          ...(wrong === 0 ? [] : [`${wrong} writes were not answered or executed once`]),
          ...(name === "file" && share < 1 - mayCost ? [`costs more than ${100 * mayCost} % of the throughput`] : [])
        ]
      }
    })
  }).pipe(Effect.scoped)
