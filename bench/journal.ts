/**
 * What the journal costs: `bun bench/journal.ts [WRITES]`. For memory, a file and PostgreSQL: microseconds of a write
 * from recall to confirm, 50 of them at a time, and what the writes then take on the disk.
 */
import { readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import { Effect, type Layer, Redacted } from "effect"
import { Journal } from "../src/journal/journal.ts"
import { openPostgres } from "../src/journal/postgres.ts"
import { openSqlite } from "../src/journal/sqlite.ts"
import { answer, becomes, departing, request, settings } from "../test/journal/requests.ts"
import { temporaryFolder } from "../test/rig/child.ts"
import { startPostgres } from "../test/rig/postgres.ts"

const count = Number(process.argv[2] ?? 20_000)
const atOnce = 50

/** As long as the answer to an `add`, with its times. */
const text = JSON.stringify({ result: 12_345, time: "t".repeat(250) })

const oneWrite = Effect.fnUntraced(function* (journal: Journal["Service"], id: string) {
  const one = request(id)
  yield* journal.recall(one, false)
  yield* journal.intend(departing(one))
  yield* journal.settle(one, answer(text))
  yield* journal.confirmed(one, "done", false)
})

/** As packed in batches: all of fifty leave together, and are answered together. */
const fifty = Effect.fnUntraced(function* (journal: Journal["Service"], name: string) {
  const many = Array.from({ length: atOnce }, (_, at) => request(`${name}-${at}`))
  yield* Effect.forEach(many, (one) => journal.recall(one, false), { concurrency: "unbounded" })
  yield* journal.intend(departing(...many))
  yield* Effect.forEach(many, (one) => journal.settle(one, answer(text)), { concurrency: "unbounded" })
  yield* Effect.forEach(many, (one) => journal.confirmed(one, "done", false))
})

const timed = (work: Effect.Effect<unknown, unknown>, writes: number) =>
  Effect.gen(function* () {
    const cpu = process.cpuUsage()
    const began = performance.now()
    yield* work
    const took = performance.now() - began
    const { user, system } = process.cpuUsage(cpu)
    return `${((took * 1_000) / writes).toFixed(1)} us (${((user + system) / writes).toFixed(1)} us of CPU)`
  })

const measure = (where: string, layer: Layer.Layer<Journal>, size: Effect.Effect<number, unknown>) =>
  Effect.gen(function* () {
    const alone = yield* Effect.gen(function* () {
      const journal = yield* Journal
      yield* becomes("ready")
      yield* Effect.forEach(Array.from({ length: 500 }), (_, at) => oneWrite(journal, `warm-${at}`), {
        concurrency: 10
      })
      const ids = Array.from({ length: count }, (_, at) => crypto.randomUUID() + at)
      const single = yield* timed(
        Effect.forEach(ids, (id) => oneWrite(journal, id), { concurrency: atOnce }),
        count
      )
      const groups = ids.slice(0, count / atOnce)
      const packed = yield* timed(
        Effect.forEach(groups, (id) => fifty(journal, `p${id}`)),
        groups.length * atOnce
      )
      const last = yield* timed(
        Effect.forEach(ids.slice(0, 1_000), (id) => oneWrite(journal, `one-${id}`)),
        1_000
      )
      return { single, packed, last }
    }).pipe(Effect.provide(layer))
    const bytes = yield* size
    console.log(
      `${where}: ${atOnce} at once ${alone.single}; by fifties ${alone.packed}; one after the other ${alone.last}; ${Math.round(bytes / 1e3)} kB after ${2 * count + 1_500} writes`
    )
  })

const program = Effect.gen(function* () {
  const folder = yield* temporaryFolder("bench")
  yield* measure("memory", Journal.layerMemory, Effect.succeed(0))
  const sizes = Effect.sync(() => readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0))
  yield* measure("file", Journal.layerOn(openSqlite(join(folder, "journal")), settings()), sizes)
  const server = yield* startPostgres()
  const url = yield* server.database
  const place = { _tag: "Database", url: Redacted.make(url), schema: "b24rmq_bench" } as const
  yield* measure(
    "PostgreSQL",
    Journal.layerOn(openPostgres(place), settings()),
    Effect.map(server.psql(url, "SELECT pg_total_relation_size('b24rmq_bench.entry')"), Number)
  )
})

await Effect.runPromise(Effect.scoped(program))
