/**
 * A process with a journal: `bun process.ts PLACE`, a file or an address of PostgreSQL. It says each state of the journal,
 * and obeys lines such as `intend ID`; `go` writes without end, as fast as it can, and says what is on disk by then.
 */
import { createInterface } from "node:readline"
import { Effect, type Layer, Redacted, Result, Stream, SubscriptionRef } from "effect"
import { Journal } from "../../src/journal/journal.ts"
import { openPostgres } from "../../src/journal/postgres.ts"
import { openSqlite } from "../../src/journal/sqlite.ts"
import { answer, departing, request, settings } from "./requests.ts"

export const layerAt = (place: string): Layer.Layer<Journal> =>
  place.startsWith("postgres://")
    ? Journal.layerOn(openPostgres({ _tag: "Database", url: Redacted.make(place), schema: "b24rmq_test" }), settings())
    : Journal.layerOn(openSqlite(place), settings())

const say = (...words: ReadonlyArray<string>) => Effect.sync(() => void process.stdout.write(`${words.join(" ")}\n`))

const writeWithoutEnd = (journal: Journal["Service"], lane: number) =>
  Effect.gen(function* () {
    for (let at = 0; ; at++) {
      const one = request(`${lane}-${at}`)
      yield* journal.recall(one, false)
      yield* say("asked", one.id)
      yield* journal.intend(departing(one))
      yield* say("intended", one.id)
      if (at % 5 === 1) {
        yield* journal.withdraw(departing(one))
        yield* journal.intend(departing(one))
      }
      // Every seventh call is cut off.
      if (at % 7 === 3) continue
      yield* journal.settle(one, answer(one.id))
      yield* say("settled", one.id)
      yield* journal.confirmed(one, "done", false)
    }
  })

const obey = (journal: Journal["Service"], line: string): Effect.Effect<unknown> => {
  const [command, id = ""] = line.split(" ")
  const one = request(id)
  const told = <A, E extends { readonly _tag: string }>(act: Effect.Effect<A, E>) =>
    Effect.flatMap(Effect.result(act), (result) =>
      say(command ?? "", id, Result.isSuccess(result) ? "ok" : result.failure._tag)
    )
  switch (command) {
    case "recall":
      return Effect.flatMap(journal.recall(one, false), ({ _tag }) => say("recall", id, _tag))
    case "intend":
      return told(journal.intend(departing(one)))
    case "settle":
      return told(journal.settle(one, answer(id)))
    case "go":
      return Effect.orDie(
        Effect.forEach([...Array(20).keys()], (lane) => writeWithoutEnd(journal, lane), { concurrency: "unbounded" })
      )
    default:
      return say("what?")
  }
}

if (import.meta.main) {
  const lines = Stream.fromAsyncIterable(createInterface(process.stdin), (cause) => cause)
  await Effect.runPromise(
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* SubscriptionRef.changes(journal.state).pipe(
        Stream.runForEach(({ _tag }) => say("state", _tag)),
        Effect.forkChild
      )
      yield* Stream.runForEach(lines, (line) => Effect.forkChild(obey(journal, line)))
    }).pipe(Effect.provide(layerAt(process.argv[2] ?? "")))
  )
  process.exit(0)
}
