import { afterAll, describe, expect } from "bun:test"
import { Effect, Exit, Fiber, type Layer, Redacted, Scope } from "effect"
import { Journal } from "../../src/journal/journal.ts"
import { openPostgres } from "../../src/journal/postgres.ts"
import { openSqlite } from "../../src/journal/sqlite.ts"
import type { Answer } from "../../src/message/answer.ts"
import { effect } from "../effect.ts"
import { temporaryFolder } from "../rig/child.ts"
import { type Postgres, startPostgres } from "../rig/postgres.ts"
import { answer, answered, departing, done, fresh, request, settings } from "./requests.ts"

/** A journal that several processes, one after the other, open: each time it is built is another process. */
type Place = Effect.Effect<Layer.Layer<Journal>, unknown, Scope.Scope>

const scope = Scope.makeUnsafe()
let started: Promise<Postgres> | undefined
/** Started on the real clock, whatever the test's is. */
const postgres = Effect.promise(() => (started ??= Effect.runPromise(Scope.provide(startPostgres(), scope))))
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 20_000)

const inMemory: Place = Effect.succeed(Journal.layerMemory)
const inFile: Place = Effect.map(temporaryFolder("journal"), (folder) =>
  Journal.layerOn(openSqlite(`${folder}/journal`), settings())
)
const inDatabase: Place = Effect.gen(function* () {
  const server = yield* postgres
  const url = Redacted.make(yield* server.database)
  return Journal.layerOn(openPostgres({ _tag: "Database", url, schema: "b24rmq_test" }), settings())
})

const inProcess = <A, E>(layer: Layer.Layer<Journal>, body: Effect.Effect<A, E, Journal>) =>
  Effect.provide(body, layer, { local: true })

/** What the bridge needs of a journal, whatever it writes to. */
const suite = (where: string, place: Place, outlives: boolean) => {
  const about = (name: string, body: Effect.Effect<unknown, unknown, Journal>) =>
    effect(name, () => Effect.flatMap(place, (layer) => inProcess(layer, body)))

  describe(`a journal in ${where}`, () => {
    about(
      "knows what runs, what was answered, and what the broker has",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        expect(yield* journal.recall(one, false)).toEqual(fresh)
        expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "Running" })
        yield* journal.settle(one, answer("1"))
        expect(yield* journal.recall(one, false)).toEqual(answered("1", false))
        yield* journal.confirmed(one, "done", false)
        expect(yield* journal.recall(one, false)).toEqual(answered("1", true))
        expect(yield* journal.recall(one, false)).toEqual(answered("1", true))
      })
    )

    about(
      "keeps requests apart by their identity, not by their message_id",
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* done(request("m-1", "one"), "1")
        expect(yield* journal.recall(request("m-1", "other"), false)).toEqual(fresh)
        expect(yield* journal.recall(request("m-1", "one"), false)).toEqual(answered("1", true))
      })
    )

    about(
      "hands an answer to all who wait for it, before and after they ask",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* journal.recall(one, false)
        const twins = yield* Effect.replicateEffect(journal.recall(one, false), 3)
        const waiting = yield* Effect.forEach(twins, (twin) =>
          Effect.forkChild(twin._tag === "Running" ? twin.answer : Effect.die("it should run"))
        )
        yield* Effect.yieldNow
        expect(waiting.map((fiber) => fiber.pollUnsafe())).toEqual([undefined, undefined, undefined])
        yield* journal.settle(one, answer("1"))
        expect(yield* Effect.forEach(waiting, Fiber.join)).toEqual([answer("1"), answer("1"), answer("1")])
        const [late] = twins
        expect(late?._tag === "Running" ? yield* late.answer : undefined).toEqual(answer("1"))
      })
    )

    about(
      "tells those who wait that a request was released, which is then as if it had never come",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* journal.recall(one, false)
        const twin = yield* journal.recall(one, false)
        yield* journal.release(one)
        expect(twin._tag === "Running" ? yield* twin.answer : "not running").toBeUndefined()
        expect(yield* journal.recall(one, false)).toEqual(fresh)
        expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "Running" })
      })
    )

    about(
      "is in doubt of what left and was released, and counts the departures",
      Effect.gen(function* () {
        const journal = yield* Journal
        const [one, two] = [request("m-1"), request("m-2")]
        for (const each of [one, two]) expect(yield* journal.recall(each, false)).toEqual(fresh)
        yield* journal.intend(departing(one, two))
        expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "Running" })
        yield* journal.release(one)
        expect(yield* journal.recall(one, false)).toEqual({
          _tag: "InDoubt",
          sent: { at: 0, firstAt: 0, attempts: 1, stamped: false }
        })
        expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "Running" })
        yield* journal.intend(departing(one))
        yield* journal.release(one)
        expect(yield* journal.recall(one, false)).toEqual({
          _tag: "InDoubt",
          sent: { at: 0, firstAt: 0, attempts: 2, stamped: false }
        })
        yield* journal.settle(one, answer("1"))
        expect(yield* journal.recall(one, false)).toEqual(answered("1", false))
        expect(yield* journal.recall(two, false)).toMatchObject({ _tag: "Running" })
      })
    )

    about(
      "is not in doubt of what was withdrawn, unless an earlier departure is",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* journal.recall(one, false)
        yield* journal.withdraw(departing(one))
        yield* journal.intend(departing(one))
        yield* journal.withdraw(departing(one))
        yield* journal.withdraw(departing(one))
        expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "Running" })
        yield* journal.release(one)
        expect(yield* journal.recall(one, false)).toEqual(fresh)
        yield* journal.intend(departing(one))
        yield* journal.release(one)
        expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "InDoubt", sent: { attempts: 1 } })
        yield* journal.intend(departing(one))
        yield* journal.withdraw(departing(one))
        yield* journal.release(one)
        expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "InDoubt", sent: { attempts: 1 } })
      })
    )

    about(
      "forgets an answer that need not be remembered once it is confirmed, and not before",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* journal.recall(one, false)
        yield* journal.settle(one, answer("1", "refused"))
        expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "Answered", confirmed: false })
        yield* journal.confirmed(one, "refused", false)
        expect(yield* journal.recall(one, false)).toEqual(fresh)
        yield* done(one, "2")
        expect(yield* journal.recall(one, false)).toEqual(answered("2", true))
      })
    )

    about(
      "does not forget what was executed since a refusal that another delivery was told, and that is confirmed late",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* journal.recall(one, false)
        yield* journal.settle(one, answer("1", "refused"))
        expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "Answered" })
        yield* journal.confirmed(one, "refused", false)
        yield* journal.recall(one, false)
        yield* journal.intend(departing(one))
        yield* journal.settle(one, answer("2"))
        yield* journal.confirmed(one, "refused", false)
        yield* journal.confirmed(one, "done", false)
        yield* journal.confirmed(one, "refused", false)
        expect(yield* journal.recall(one, false)).toEqual(answered("2", true))
      })
    )

    about(
      "takes a second confirm, or one for what it does not know, without harm",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* journal.confirmed(one, "done", false)
        expect(yield* journal.recall(one, false)).toEqual(fresh)
        yield* journal.confirmed(one, "done", false)
        expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "Running" })
        yield* journal.settle(one, answer("1"))
        yield* journal.confirmed(one, "done", false)
        yield* journal.confirmed(one, "done", false)
        expect(yield* journal.recall(one, false)).toEqual(answered("1", true))
      })
    )

    about(
      "cannot recognise a request without message_id: it is always fresh, and leaves nothing behind",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request(undefined)
        expect(yield* journal.recall(one, false)).toEqual(fresh)
        expect(yield* journal.recall(one, false)).toEqual(fresh)
        yield* journal.intend(departing(one))
        yield* journal.settle(one, answer("1"))
        expect(yield* journal.recall(one, false)).toEqual(fresh)
        yield* journal.confirmed(one, "done", false)
        expect(yield* journal.recall(one, false)).toEqual(fresh)
        yield* journal.release(one)
        expect(yield* journal.recall(one, false)).toEqual(fresh)
        // Nor does it touch a named request, should their digests be the same.
        const named = request("m-1", "nameless")
        yield* journal.recall(named, false)
        yield* journal.release(one)
        expect(yield* journal.recall(named, false)).toMatchObject({ _tag: "Running" })
      })
    )

    about(
      "remembers a read until its answer is confirmed, and is never in doubt of it",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        expect(yield* journal.recall(one, true)).toEqual(fresh)
        expect(yield* journal.recall(one, true)).toMatchObject({ _tag: "Running" })
        yield* journal.intend([{ request: one, isRead: true, queue: "in" }])
        yield* journal.release(one)
        expect(yield* journal.recall(one, true)).toEqual(fresh)
        yield* journal.settle(one, answer("1"))
        expect(yield* journal.recall(one, true)).toEqual(answered("1", false))
        yield* journal.confirmed(one, "done", true)
        expect(yield* journal.recall(one, true)).toEqual(fresh)
      })
    )

    about(
      "gives back the answer's bytes, outcome, status and attempts as they were",
      Effect.gen(function* () {
        const journal = yield* Journal
        const odd: ReadonlyArray<Answer> = [
          { outcome: "unknown", body: Buffer.from([0, 0xff, 0x7b]), status: undefined, attempts: 6 },
          { outcome: "done", body: Buffer.alloc(64 * 1024, 7), status: 200, attempts: 1, packed: true },
          { outcome: "rejected", body: Buffer.from("'; DROP TABLE entry; --"), status: undefined, attempts: 0 },
          { outcome: "done", body: Buffer.alloc(0), status: 200, attempts: 1 }
        ]
        for (const [at, answer] of odd.entries()) {
          const one = request(`m-${at} '"$1\\ жук`)
          yield* journal.recall(one, false)
          yield* journal.settle(one, answer)
          yield* journal.confirmed(one, "done", false)
          expect(yield* journal.recall(one, false)).toEqual({ _tag: "Answered", answer, confirmed: true })
        }
      })
    )

    about(
      "keeps values by their key",
      Effect.gen(function* () {
        const journal = yield* Journal
        expect(yield* journal.recallKey("paused")).toBeUndefined()
        yield* journal.remember("paused", "1")
        yield* journal.remember("paused", "2")
        expect(yield* journal.recallKey("paused")).toBe("2")
      })
    )

    if (!outlives) return

    const afterRestart = (name: string, ...bodies: ReadonlyArray<Effect.Effect<unknown, unknown, Journal>>) =>
      effect(name, () =>
        Effect.flatMap(place, (layer) => Effect.forEach(bodies, (body) => inProcess(layer, body), { discard: true }))
      )

    const unsent = request("unsent")
    const sent = request("sent")
    const settled = request("settled")
    const confirmed = request("confirmed")
    const refused = request("refused")
    const read = request("read")
    afterRestart(
      "knows in the next process what left, what was answered, and what was kept",
      Effect.gen(function* () {
        const journal = yield* Journal
        for (const one of [unsent, sent, settled, refused]) yield* journal.recall(one, false)
        yield* journal.recall(read, true)
        yield* journal.intend(departing(sent, settled, refused))
        yield* journal.settle(settled, answer("c"))
        yield* journal.settle(refused, answer("e", "refused"))
        yield* journal.settle(read, answer("f"))
        yield* journal.confirmed(refused, "refused", false)
        yield* done(confirmed, "d")
        yield* journal.remember("paused", "yes")
      }),
      Effect.gen(function* () {
        const journal = yield* Journal
        expect(yield* journal.recall(unsent, false)).toEqual(fresh)
        expect(yield* journal.recall(sent, false)).toEqual({
          _tag: "InDoubt",
          sent: { at: 0, firstAt: 0, attempts: 1, stamped: false }
        })
        expect(yield* journal.recall(settled, false)).toEqual(answered("c", false))
        expect(yield* journal.recall(confirmed, false)).toEqual(answered("d", true))
        expect(yield* journal.recall(refused, false)).toEqual(fresh)
        expect(yield* journal.recall(read, true)).toEqual(fresh)
        expect(yield* journal.recallKey("paused")).toBe("yes")
        expect(yield* journal.lostMemorySince).toBeUndefined()
      }),
      Effect.gen(function* () {
        const journal = yield* Journal
        // Asked for and never released: that alone leaves nothing behind.
        expect(yield* journal.recall(unsent, false)).toEqual(fresh)
        expect(yield* journal.recall(sent, false)).toEqual({
          _tag: "InDoubt",
          sent: { at: 0, firstAt: 0, attempts: 1, stamped: false }
        })
      })
    )

    about(
      "finds the writes of a message_id: times, method, outcome, and no body",
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* done(request("m-1", "one"), "1")
        yield* done(request("m-10", "ten"), "10")
        const other = request("m-1", "two")
        yield* journal.recall(other, false)
        yield* journal.intend(departing(other))
        const found = yield* journal.find("m-1")
        expect(found.length).toBe(2)
        for (const row of found)
          expect(row).toMatchObject({
            messageId: "m-1",
            method: "crm.deal.add",
            credential: "1#abcdef01",
            queue: "in",
            sent: { at: 0, firstAt: 0, attempts: 1, stamped: false }
          })
        const outcomes = found.map(({ answered }) => answered)
        expect(outcomes).toContain(undefined)
        expect(outcomes).toContainEqual({
          outcome: "done",
          status: 200,
          attempts: 1,
          packed: false,
          resolved: undefined,
          body: undefined,
          bytes: 1,
          digest: undefined,
          at: 0,
          confirmed: true
        })
        expect(yield* journal.find("m")).toEqual([])
      })
    )
  })
}

suite("memory", inMemory, false)
suite("a file", inFile, true)
suite("PostgreSQL", inDatabase, true)
