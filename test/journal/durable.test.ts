import { expect } from "bun:test"
import { createHash } from "node:crypto"
import { Context, Duration, Effect, Exit, Fiber, Layer, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import { Journal } from "../../src/journal/journal.ts"
import { keyOf } from "../../src/journal/row.ts"
import { openSqlite } from "../../src/journal/sqlite.ts"
import { type Changes, type Open, type Store, StoreFailed } from "../../src/journal/store.ts"
import { effect } from "../effect.ts"
import { temporaryFolder } from "../rig/child.ts"
import { answer, answered, becomes, departing, done, fresh, request, settings } from "./requests.ts"

/** A store that a test can break, and that counts what it is asked. */
interface Wrapped {
  readonly commits: Array<Changes>
  readonly finds: Array<ReadonlyArray<string>>
  /** Runs before each commit. */
  before: Effect.Effect<void, StoreFailed>
  /** Fails whoever opens it. */
  opening: Effect.Effect<void, StoreFailed>
  /** What another process does before this one has opened it. */
  interlude: (store: Store) => Effect.Effect<void, StoreFailed>
}

class Wrap extends Context.Service<Wrap, Wrapped>()("test/Wrap") {}

const wrap =
  (open: Open, wrapped: Wrapped): Open =>
  (opening) =>
    Effect.andThen(
      Effect.suspend(() => wrapped.opening),
      Effect.map(
        Effect.tap(open(opening), (store) => wrapped.interlude(store)),
        (store): Store => ({
          ...store,
          commit: (changes) =>
            Effect.suspend(() => wrapped.before).pipe(
              Effect.andThen(store.commit(changes)),
              Effect.andThen(Effect.sync(() => void wrapped.commits.push(changes)))
            ),
          find: (keys) =>
            Effect.suspend(() => {
              wrapped.finds.push(keys)
              return store.find(keys)
            })
        })
      )
    )

const about = (
  name: string,
  body: Effect.Effect<unknown, unknown, Journal | Wrap>,
  options: Parameters<typeof settings>[0] = {}
) =>
  effect(name, () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder("journal")}/journal`
      const wrapped: Wrapped = {
        commits: [],
        finds: [],
        before: Effect.void,
        opening: Effect.void,
        interlude: () => Effect.void
      }
      const journal = Journal.layerOn(wrap(openSqlite(file), wrapped), settings(options))
      yield* Effect.andThen(becomes("ready"), body).pipe(
        Effect.provide(Layer.mergeAll(journal, Layer.succeed(Wrap, wrapped)))
      )
    })
  )

const many = (count: number, name = "m") => Array.from({ length: count }, (_, at) => request(`${name}-${at}`))
const portal = settings().b24Rest.href
const broken = Effect.fail(new StoreFailed({ reason: "broken" }))
/** Lets everything run that does not wait for the clock: SQLite answers within a turn of the event loop. */
const settled = Effect.forEach([...Array(20).keys()], () => Effect.promise(() => new Promise(setImmediate)), {
  discard: true
})

about(
  "one transaction serves all that wait, and one query all that are looked up",
  Effect.gen(function* () {
    const journal = yield* Journal
    const { commits, finds } = yield* Wrap
    const all = many(200)
    const together = { concurrency: "unbounded" } as const
    yield* Effect.forEach(all, (one) => journal.recall(one, false), together)
    expect(finds.map(({ length }) => length)).toEqual([200])
    expect(commits).toEqual([])
    yield* Effect.forEach(all, (one) => journal.intend(departing(one)), together)
    expect(commits.map(({ rows }) => rows.length)).toEqual([200])
    yield* Effect.forEach(all, (one) => journal.settle(one, answer(one.id)), together)
    expect(commits.map(({ rows }) => rows.length)).toEqual([200, 200])
    yield* Effect.forEach(all, (one) => journal.confirmed(one, "done", false), together)
    yield* settled
    expect(commits.length).toBe(2)
    yield* TestClock.adjust("2 seconds")
    yield* settled
    expect(commits.map(({ confirms }) => confirms.length)).toEqual([0, 0, 200])
  })
)

about(
  "an intent that is not on disk fails, and leaves no doubt",
  Effect.gen(function* () {
    const journal = yield* Journal
    const wrapped = yield* Wrap
    const [one, two] = [request("one"), request("two")]
    for (const each of [one, two]) yield* journal.recall(each, false)
    wrapped.before = broken
    expect(yield* Effect.flip(journal.intend(departing(one)))).toMatchObject({
      _tag: "JournalFailed",
      reason: "broken"
    })
    expect(SubscriptionRef.getUnsafe(journal.state)).toEqual({ _tag: "failed", reason: "broken" })
    // It is known at once now.
    expect(yield* Effect.flip(journal.intend(departing(two)))).toMatchObject({
      _tag: "JournalFailed",
      reason: "broken"
    })
    expect(yield* Effect.flip(journal.remember("a", "b"))).toMatchObject({ _tag: "JournalFailed", reason: "broken" })
    wrapped.before = Effect.void
    const ready = yield* Effect.forkChild(becomes("ready"))
    yield* TestClock.adjust("10 seconds")
    yield* Fiber.join(ready)
    for (const each of [one, two]) yield* journal.release(each)
    for (const each of [one, two]) expect(yield* journal.recall(each, false)).toEqual(fresh)
    yield* journal.intend(departing(one, two))
  })
)

about(
  "a write that was not recalled cannot leave",
  Effect.gen(function* () {
    const journal = yield* Journal
    const { commits } = yield* Wrap
    const [known, stranger] = [request("known"), request("stranger")]
    yield* journal.recall(known, false)
    const exit = yield* Effect.exit(journal.intend(departing(known, stranger)))
    expect(Exit.hasDies(exit)).toBe(true)
    expect(commits).toEqual([])
  })
)

about(
  "an intent whose waiting was cut short is taken back",
  Effect.gen(function* () {
    const journal = yield* Journal
    const wrapped = yield* Wrap
    const one = request("one")
    yield* journal.recall(one, false)
    wrapped.before = Effect.sleep("1 second")
    const intending = yield* Effect.forkChild(journal.intend(departing(one)))
    yield* settled
    const cut = yield* Effect.forkChild(Fiber.interrupt(intending))
    yield* TestClock.adjust("1 second")
    yield* Fiber.join(cut)
    yield* journal.release(one)
    const asking = yield* Effect.forkChild(journal.recall(one, false))
    yield* settled
    yield* TestClock.adjust("2 seconds")
    expect(yield* Fiber.join(asking)).toEqual(fresh)
  })
)

about(
  "an intent that took so long that another bridge may hold the journal does not let its write go",
  Effect.gen(function* () {
    const journal = yield* Journal
    const wrapped = yield* Wrap
    const one = request("one")
    yield* journal.recall(one, false)
    wrapped.before = Effect.sleep("5 seconds")
    const intending = yield* Effect.forkChild(Effect.flip(journal.intend(departing(one))))
    yield* settled
    yield* TestClock.adjust("5 seconds")
    expect(yield* Fiber.join(intending)).toMatchObject({ _tag: "JournalFailed", reason: "it took 5000 ms" })
    wrapped.before = Effect.void
  })
)

about(
  "an answer that cannot be written is held for half a minute, then let go, and written when that can be done",
  Effect.gen(function* () {
    const journal = yield* Journal
    const wrapped = yield* Wrap
    const one = request("one")
    yield* journal.recall(one, false)
    yield* journal.intend(departing(one))
    const twin = yield* journal.recall(one, false)
    wrapped.before = broken
    const settling = yield* Effect.forkChild(journal.settle(one, answer("1")))
    const waiting = yield* Effect.forkChild(twin._tag === "Running" ? twin.answer : Effect.die("it should run"))
    yield* settled
    yield* TestClock.adjust("29 seconds")
    yield* settled
    expect([settling.pollUnsafe(), waiting.pollUnsafe()]).toEqual([undefined, undefined])
    yield* TestClock.adjust("1 second")
    yield* Fiber.join(settling)
    expect(yield* Fiber.join(waiting)).toEqual(answer("1"))
    yield* journal.confirmed(one, "done", false)
    // Known all the same.
    const late = yield* journal.recall(one, false)
    expect(late._tag === "Running" ? yield* late.answer : undefined).toEqual(answer("1"))
    wrapped.before = Effect.void
    const ready = yield* Effect.forkChild(becomes("ready"))
    yield* TestClock.adjust("10 seconds")
    yield* Fiber.join(ready)
    expect(yield* journal.recall(one, false)).toEqual(answered("1", true))
  })
)

about(
  "recalls of writes wait while the journal is lost, reads do not",
  Effect.gen(function* () {
    const journal = yield* Journal
    const wrapped = yield* Wrap
    yield* done(request("known"), "1")
    yield* journal.recall(request("lost"), false)
    wrapped.before = broken
    wrapped.opening = broken
    yield* Effect.ignore(journal.intend(departing(request("lost"))))
    const asking = yield* Effect.forkChild(journal.recall(request("known"), false))
    yield* TestClock.adjust("1 minute")
    yield* settled
    expect(asking.pollUnsafe()).toBeUndefined()
    expect(yield* journal.recall(request("read"), true)).toEqual(fresh)
    wrapped.before = Effect.void
    wrapped.opening = Effect.void
    yield* TestClock.adjust("10 seconds")
    expect(yield* Fiber.join(asking)).toEqual(answered("1", true))
  })
)

about(
  "what another bridge took up while this one was without the journal does not leave",
  Effect.gen(function* () {
    const journal = yield* Journal
    const wrapped = yield* Wrap
    const [answeredThere, sentThere, free, sentHere] = ["answered", "sent", "free", "here"].map((id) => request(id))
    if (!answeredThere || !sentThere || !free || !sentHere) return
    for (const each of [answeredThere, sentThere, free, sentHere]) yield* journal.recall(each, false)
    yield* journal.intend(departing(sentHere))
    const [{ rows: [row] } = { rows: [] }] = wrapped.commits
    if (row === undefined) return
    // Whoever holds the journal in between, before this one has opened it again.
    const other = (store: Store) =>
      store.commit({
        withdrawals: [],
        forgets: [],
        confirms: [],
        facts: [],
        rows: [
          { ...row, key: keyOf(portal, answeredThere), answered: theirs },
          { ...row, key: keyOf(portal, sentThere) },
          { ...row, answered: theirs }
        ]
      })
    const theirs = {
      outcome: "done",
      status: 200,
      attempts: 1,
      packed: false,
      resolved: undefined,
      body: Buffer.from("theirs"),
      bytes: 6,
      digest: undefined,
      at: 0,
      confirmed: true
    } as const
    wrapped.before = Effect.fail(new StoreFailed({ reason: "taken", takenOver: true }))
    expect(yield* Effect.flip(journal.intend(departing(free)))).toMatchObject({ reason: "taken" })
    expect(SubscriptionRef.getUnsafe(journal.state)).toEqual({ _tag: "standby" })
    wrapped.before = Effect.void
    wrapped.interlude = other
    const ready = yield* Effect.forkChild(becomes("ready"))
    yield* TestClock.adjust("10 seconds")
    yield* Fiber.join(ready)

    const overtaken = yield* Effect.flip(journal.intend(departing(answeredThere, sentThere, free)))
    expect(overtaken).toMatchObject({ _tag: "Overtaken", requests: [answeredThere, sentThere] })
    yield* journal.intend(departing(free))
    for (const each of [answeredThere, sentThere]) yield* journal.release(each)
    expect(yield* journal.recall(answeredThere, false)).toEqual(answered("theirs", true))
    expect(yield* journal.recall(sentThere, false)).toMatchObject({ _tag: "InDoubt", sent: { attempts: 1 } })
    // Both have an answer: the first to be written stays.
    yield* journal.settle(sentHere, answer("ours"))
    expect(yield* journal.recall(sentHere, false)).toEqual(answered("theirs", true))
  })
)

about(
  "answers to 64 KiB are kept; of a longer one it is known that it was given",
  Effect.gen(function* () {
    const journal = yield* Journal
    const long = request("long")
    const text = "x".repeat(64 * 1024 + 1)
    yield* journal.recall(long, false)
    yield* journal.settle(long, { ...answer(text), packed: true })
    // Until the broker has it, it is still there.
    expect(yield* journal.recall(long, false)).toMatchObject({ answer: answer(text) })
    yield* journal.confirmed(long, "done", false)
    const known = yield* journal.recall(long, false)
    expect(known).toMatchObject({
      _tag: "Answered",
      confirmed: true,
      answer: { outcome: "done", status: 200, attempts: 1, packed: true }
    })
    const body = known._tag === "Answered" ? String(known.answer.body) : ""
    expect(JSON.parse(body)).toMatchObject({ error: "B24RMQ_ANSWER_NOT_KEPT" })
    expect(body).toContain("65537 bytes")
    expect(body).toContain(createHash("sha256").update(text).digest("base64url"))
  })
)

about(
  "what was confirmed is forgotten after its time, what is open never, and what was not confirmed much later",
  Effect.gen(function* () {
    const journal = yield* Journal
    const [confirmed, unconfirmed, doubt] = [request("confirmed"), request("unconfirmed"), request("doubt")]
    yield* done(confirmed, "1")
    for (const one of [unconfirmed, doubt]) yield* journal.recall(one, false)
    yield* journal.intend(departing(unconfirmed, doubt))
    yield* journal.settle(unconfirmed, answer("2"))
    yield* journal.release(doubt)
    const pass = (time: Duration.Input) => Effect.andThen(TestClock.adjust(time), settled)
    yield* pass("59 minutes")
    expect(yield* journal.recall(confirmed, false)).toEqual(answered("1", true))
    yield* pass("2 minutes")
    yield* pass("1 minute")
    expect(yield* journal.recall(confirmed, false)).toEqual(fresh)
    expect(yield* journal.recall(unconfirmed, false)).toEqual(answered("2", false))
    yield* pass("6 hours")
    yield* pass("2 minutes")
    yield* pass("1 minute")
    expect(yield* journal.recall(unconfirmed, false)).toEqual(fresh)
    expect(yield* journal.recall(doubt, false)).toMatchObject({ _tag: "InDoubt" })
  }),
  { keep: "1 hour" }
)

about(
  "beyond its size the oldest confirmed answers are forgotten",
  Effect.gen(function* () {
    const journal = yield* Journal
    const all = many(2_000)
    const body = "x".repeat(2_000)
    yield* Effect.forEach(all, (one) => done(one, body), { concurrency: 100 })
    const [first, last] = [
      yield* journal.recall(request("m-0"), false),
      yield* journal.recall(request("m-1999"), false)
    ]
    expect(first).toEqual(fresh)
    expect(last).toMatchObject({ _tag: "Answered" })
    expect(SubscriptionRef.getUnsafe(journal.state)).toEqual({ _tag: "ready" })
  }),
  { most: 1_048_576 }
)

about(
  "a journal full of what may not be forgotten takes no writes, takes their answers, and takes writes again after confirms",
  Effect.gen(function* () {
    const journal = yield* Journal
    const all = many(500)
    const body = "x".repeat(4_000)
    const sent: Array<(typeof all)[number]> = []
    for (const one of all) {
      yield* journal.recall(one, false)
      const failed = yield* Effect.flip(Effect.andThen(journal.intend(departing(one)), Effect.fail("sent" as const)))
      if (failed !== "sent") {
        expect(failed).toMatchObject({ _tag: "JournalFailed", reason: expect.stringContaining("B24RMQ_JOURNAL_MAX") })
        break
      }
      sent.push(one)
      yield* journal.settle(one, answer(body))
    }
    expect(sent.length).toBeGreaterThan(200)
    expect(sent.length).toBeLessThan(300)
    expect(SubscriptionRef.getUnsafe(journal.state)).toMatchObject({ _tag: "failed" })
    const last = all[sent.length]
    if (last === undefined) return
    yield* journal.settle(last, answer("1"))
    expect(yield* journal.recall(last, false)).toEqual(answered("1", false))
    for (const one of sent) yield* journal.confirmed(one, "done", false)
    const ready = yield* Effect.forkChild(becomes("ready"))
    yield* TestClock.adjust("2 seconds")
    yield* Fiber.join(ready)
    const next = request("next")
    yield* journal.recall(next, false)
    yield* journal.intend(departing(next))
  }),
  { most: 1_048_576 }
)

const refused = Effect.fnUntraced(function* (one: ReturnType<typeof request>) {
  const journal = yield* Journal
  yield* journal.recall(one, false)
  yield* journal.intend(departing(one))
  yield* journal.settle(one, answer("no", "refused"))
})

about(
  "the late confirm of a refusal does not hold up the answer that waits for the disk since",
  Effect.gen(function* () {
    const journal = yield* Journal
    const one = request("one")
    yield* refused(one)
    yield* journal.recall(one, false)
    yield* journal.confirmed(one, "refused", false)
    expect(yield* journal.recall(one, false)).toEqual(fresh)
    yield* journal.intend(departing(one))
    const settling = yield* Effect.forkChild(journal.settle(one, answer("yes")), { startImmediately: true })
    yield* journal.confirmed(one, "refused", false)
    yield* Fiber.join(settling)
    expect(yield* journal.recall(one, false)).toEqual(answered("yes", false))
  })
)

about(
  "a refusal that is too long for the disk is not given once more after what was executed since",
  Effect.gen(function* () {
    const journal = yield* Journal
    const one = request("one")
    yield* journal.recall(one, false)
    yield* journal.intend(departing(one))
    yield* journal.settle(one, answer("n".repeat(64 * 1024 + 1), "refused"))
    yield* journal.confirmed(one, "refused", false)
    expect(yield* journal.recall(one, false)).toEqual(fresh)
    yield* journal.intend(departing(one))
    yield* journal.settle(one, answer("yes"))
    expect(yield* journal.recall(one, false)).toEqual(answered("yes", false))
  })
)

about(
  "a refusal that is confirmed while another bridge holds the journal does not forget what that one executed",
  Effect.gen(function* () {
    const journal = yield* Journal
    const wrapped = yield* Wrap
    const [one, other] = [request("one"), request("other")]
    yield* refused(one)
    const row = wrapped.commits.at(-1)?.rows[0]
    if (row?.answered === undefined) throw new Error("the refusal is not on disk")
    const theirs = { ...row.answered, outcome: "done" as const, body: Buffer.from("theirs"), bytes: 6, confirmed: true }
    yield* journal.recall(other, false)
    wrapped.before = Effect.fail(new StoreFailed({ reason: "taken", takenOver: true }))
    yield* Effect.flip(journal.intend(departing(other)))
    yield* becomes("standby")
    wrapped.before = Effect.void
    yield* journal.confirmed(one, "refused", false)
    const rows = [{ ...row, answered: theirs }]
    wrapped.interlude = (store) => store.commit({ withdrawals: [], forgets: [row.key], confirms: [], facts: [], rows })
    const ready = yield* Effect.forkChild(becomes("ready"))
    yield* TestClock.adjust("10 seconds")
    yield* Fiber.join(ready)
    expect(yield* journal.recall(one, false)).toEqual(answered("theirs", true))
  })
)

about(
  "a write that is released while it leaves does not leave unwritten",
  Effect.gen(function* () {
    const journal = yield* Journal
    const wrapped = yield* Wrap
    const one = request("one")
    yield* journal.recall(one, false)
    const leaving = yield* Effect.forkChild(journal.intend(departing(one)), { startImmediately: true })
    yield* journal.release(one)
    yield* Fiber.join(leaving)
    expect(wrapped.commits.flatMap(({ rows }) => rows.map(({ messageId }) => messageId))).toEqual(["one"])
    expect(yield* journal.recall(one, false)).toMatchObject({ _tag: "InDoubt" })
  })
)
