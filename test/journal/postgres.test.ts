import { afterAll, expect } from "bun:test"
import { Effect, Exit, Fiber, Scope, SubscriptionRef } from "effect"
import { Journal } from "../../src/journal/journal.ts"
import { live } from "../effect.ts"
import { type Postgres, startPostgres } from "../rig/postgres.ts"
import { until } from "../rig/until.ts"
import { otherProcess } from "./other.ts"
import { layerAt } from "./process.ts"
import { answer, answered, becomes, departing, done, fresh, request, token } from "./requests.ts"

const scope = Scope.makeUnsafe()
let started: Promise<Postgres> | undefined
/** One server for all tests; who stops it starts it again. */
const server = Effect.promise(() => (started ??= Effect.runPromise(Scope.provide(startPostgres(), scope))))
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 20_000)

const inDatabase = <A, E, R>(url: string, body: Effect.Effect<A, E, R | Journal>) =>
  Effect.provide(body, layerAt(url), { local: true })

const stateOf = Effect.map(Journal, ({ state }) => SubscriptionRef.getUnsafe(state)._tag)

live("no token and no body of a request is in the database", () =>
  Effect.gen(function* () {
    const { database, psql } = yield* server
    const url = yield* database
    yield* inDatabase(url, done(request("m-1"), "the answer"))
    const rows = yield* psql(url, "SELECT row_to_json(entry) FROM b24rmq_test.entry")
    expect(rows).toContain(Buffer.from("the answer").toString("hex"))
    expect(rows).not.toContain(token)
    expect(rows).not.toContain("canary")
  })
)

live("a standby takes over when the holder is killed, and knows all that it has said", () =>
  Effect.gen(function* () {
    const url = yield* (yield* server).database
    const first = yield* otherProcess(url)
    yield* first.waitFor("state ready")
    yield* first.go
    yield* until(
      "it has written",
      Effect.sync(() => first.lines().length > 2_000)
    )
    yield* inDatabase(
      url,
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* becomes("standby")
        expect(first.ended()).toBeUndefined()
        yield* first.kill("SIGKILL")
        yield* first.exited
        yield* becomes("ready")
        const said = first.lines()
        const of = (word: string) =>
          new Set(said.filter((line) => line.startsWith(`${word} `)).map((line) => line.slice(word.length + 1)))
        const [asked, intended, settled] = [of("asked"), of("intended"), of("settled")]
        expect(settled.size).toBeGreaterThan(50)
        for (const id of asked) {
          const known = yield* journal.recall(request(id), false)
          if (settled.has(id)) expect(known).toMatchObject({ _tag: "Answered", answer: answer(id) })
          else if (intended.has(id)) expect(["InDoubt", "Answered"]).toContain(known._tag)
          // What it did last it may not have said any more.
          else if (known._tag === "Answered") expect(known.answer).toEqual(answer(id))
        }
      })
    )
  })
)

live("a holder that is frozen loses the journal, and cannot intend when it wakes", () =>
  Effect.gen(function* () {
    const url = yield* (yield* server).database
    const first = yield* otherProcess(url)
    yield* first.waitFor("state ready")
    for (const id of ["left", "waiting", "later"]) expect(yield* first.ask(`recall ${id}`)).toBe("Fresh")
    expect(yield* first.ask("intend left")).toBe("ok")
    yield* inDatabase(
      url,
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* becomes("standby")
        yield* first.kill("SIGSTOP")
        yield* becomes("ready")
        expect(yield* journal.recall(request("left"), false)).toMatchObject({ _tag: "InDoubt", sent: { attempts: 1 } })
        yield* done(request("waiting"), "by the second")
        yield* first.kill("SIGCONT")
        // It may have heard of it already, or hear of it now; either way nothing leaves.
        expect(yield* first.ask("intend waiting")).toBe("JournalFailed")
        yield* first.waitFor("state standby")
        expect(yield* first.ask("intend later")).toBe("JournalFailed")
        expect(yield* stateOf).toBe("ready")
        yield* journal.settle(request("left"), answer("by the second"))
      })
    )
    // The second has ended, and the first holds the journal again: with an epoch of its own.
    yield* first.waitFor("state ready", first.lines().lastIndexOf("state standby"))
    expect(yield* first.ask("intend waiting")).toBe("Overtaken")
    expect(yield* first.ask("intend later")).toBe("ok")
    expect(yield* first.ask("settle left")).toBe("ok")
    yield* first.kill("SIGKILL")
    yield* first.exited
    yield* inDatabase(
      url,
      Effect.gen(function* () {
        const journal = yield* Journal
        expect(yield* journal.recall(request("left"), false)).toEqual(answered("by the second", false))
        expect(yield* journal.recall(request("waiting"), false)).toMatchObject({ answer: answer("by the second") })
        expect(yield* journal.recall(request("later"), false)).toMatchObject({ _tag: "InDoubt" })
      })
    )
  })
)

live("every intent looks whether the journal is still its own", () =>
  Effect.gen(function* () {
    const { database, psql } = yield* server
    const url = yield* database
    yield* inDatabase(
      url,
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* becomes("ready")
        const one = request("m-1")
        yield* journal.recall(one, false)
        const epoch = Number(yield* psql(url, "UPDATE b24rmq_test.holder SET epoch = epoch + 1 RETURNING epoch"))
        expect(yield* Effect.flip(journal.intend(departing(one)))).toMatchObject({
          _tag: "JournalFailed",
          reason: "another bridge has taken the journal over"
        })
        yield* becomes("ready")
        expect(Number(yield* psql(url, "SELECT epoch FROM b24rmq_test.holder"))).toBe(epoch + 1)
        yield* journal.intend(departing(one))
      })
    )
  })
)

for (const how of ["stopFast", "kill9"] as const) {
  live(`while the server is away (${how}) writes wait and answers are held; afterwards all is there`, () =>
    Effect.gen(function* () {
      const postgres = yield* server
      const url = yield* postgres.database
      yield* inDatabase(
        url,
        Effect.gen(function* () {
          const journal = yield* Journal
          yield* becomes("ready")
          yield* done(request("before"), "1")
          const [sent, waiting, later] = [request("sent"), request("waiting"), request("later")]
          for (const one of [sent, waiting]) yield* journal.recall(one, false)
          yield* journal.intend(departing(sent))
          yield* Effect.addFinalizer(() => Effect.ignore(postgres.start))
          yield* postgres[how]
          expect(yield* Effect.flip(journal.intend(departing(waiting)))).toMatchObject({ _tag: "JournalFailed" })
          expect(yield* stateOf).toBe("failed")
          expect(yield* journal.recall(request("read"), true)).toEqual(fresh)
          const settling = yield* Effect.forkChild(journal.settle(sent, answer("2")), { startImmediately: true })
          const asking = yield* Effect.forkChild(journal.recall(later, false), { startImmediately: true })
          const knowing = yield* Effect.forkChild(journal.recall(request("before"), false), { startImmediately: true })
          expect([settling, asking, knowing].map((fiber) => fiber.pollUnsafe())).toEqual([
            undefined,
            undefined,
            undefined
          ])
          yield* postgres.start
          yield* Fiber.join(settling)
          expect(yield* Fiber.join(asking)).toEqual(fresh)
          expect(yield* Fiber.join(knowing)).toMatchObject({ _tag: "Answered", answer: answer("1") })
          expect(yield* stateOf).toBe("ready")
          yield* journal.intend(departing(waiting, later))
        })
      )
      yield* inDatabase(
        url,
        Effect.gen(function* () {
          const journal = yield* Journal
          expect(yield* journal.recall(request("sent"), false)).toEqual(answered("2", false))
          expect(yield* journal.recall(request("waiting"), false)).toMatchObject({
            _tag: "InDoubt",
            sent: { attempts: 1 }
          })
        })
      )
    })
  )
}

live("a server that cannot be reached, or refuses, is told without its address's password", () =>
  Effect.gen(function* () {
    const { port } = yield* server
    for (const address of [`u:canary1@127.0.0.1:1/db`, `rig:canary1@127.0.0.1:${port}/no_such_database`]) {
      yield* inDatabase(
        `postgres://${address}`,
        Effect.gen(function* () {
          const { state } = yield* Journal
          yield* becomes("failed")
          const now = SubscriptionRef.getUnsafe(state)
          expect(now).toMatchObject({ reason: expect.stringMatching(/^PostgreSQL: .{5}/) })
          expect(JSON.stringify(now)).not.toContain("canary")
        })
      )
    }
  })
)
