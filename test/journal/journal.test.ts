import { describe, expect } from "bun:test"
import { Effect, Fiber, Layer, Redacted } from "effect"
import { Journal, journalInMemory } from "../../src/journal/journal.ts"
import type { Answer } from "../../src/message/answer.ts"
import type { Request } from "../../src/message/request.ts"
import { effect } from "../effect.ts"

const request = (messageId: string | undefined, id = messageId ?? "nameless"): Request => ({
  id,
  messageId,
  correlationId: undefined,
  method: "crm.deal.add",
  user: "1",
  token: Redacted.make("secret"),
  credential: "1#secret",
  body: Buffer.from("{}"),
  parameters: {},
  order: undefined
})

const answer = (text: string): Answer => ({ outcome: "done", body: Buffer.from(text), status: 200, attempts: 1 })

const fresh = { _tag: "Fresh" } as const
const answered = (text: string, confirmed: boolean) => ({ _tag: "Answered", answer: answer(text), confirmed }) as const

/** Asks, settles and confirms, as for a request that went well. */
const done = Effect.fnUntraced(function* (one: Request, text: string) {
  const journal = yield* Journal
  yield* journal.recall(one)
  yield* journal.settle(one, answer(text))
  yield* journal.confirmed(one, true)
})

/** What the bridge needs of a journal, whatever it writes to. */
const suite = (where: string, layer: Layer.Layer<Journal>) => {
  const about = (name: string, body: Effect.Effect<unknown, never, Journal>) =>
    effect(name, () => Effect.provide(body, Layer.fresh(layer)))

  describe(`a journal in ${where}`, () => {
    about(
      "knows what runs, what was answered, and what the broker has",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        expect(yield* journal.recall(one)).toEqual(fresh)
        expect(yield* journal.recall(one)).toMatchObject({ _tag: "Running" })
        yield* journal.settle(one, answer("1"))
        expect(yield* journal.recall(one)).toEqual(answered("1", false))
        yield* journal.confirmed(one, true)
        expect(yield* journal.recall(one)).toEqual(answered("1", true))
        expect(yield* journal.recall(one)).toEqual(answered("1", true))
      })
    )

    about(
      "keeps requests apart by their identity, not by their message_id",
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* done(request("m-1", "one"), "1")
        expect(yield* journal.recall(request("m-1", "other"))).toEqual(fresh)
        expect(yield* journal.recall(request("m-1", "one"))).toEqual(answered("1", true))
      })
    )

    about(
      "hands an answer to all who wait for it, before and after they ask",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* journal.recall(one)
        const twins = yield* Effect.replicateEffect(journal.recall(one), 3)
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
      "tells those who wait that a request was withdrawn, and is then as if it had never come",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* journal.recall(one)
        const twin = yield* journal.recall(one)
        yield* journal.withdraw(one)
        expect(twin._tag === "Running" ? yield* twin.answer : "not running").toBeUndefined()
        expect(yield* journal.recall(one)).toEqual(fresh)
        expect(yield* journal.recall(one)).toMatchObject({ _tag: "Running" })
      })
    )

    about(
      "forgets an answer that need not be remembered once it is confirmed, and not before",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* journal.recall(one)
        yield* journal.settle(one, answer("1"))
        expect(yield* journal.recall(one)).toEqual(answered("1", false))
        yield* journal.confirmed(one, false)
        expect(yield* journal.recall(one)).toEqual(fresh)
      })
    )

    about(
      "takes a second confirm, or one for what it does not know, without harm",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* journal.confirmed(one, true)
        expect(yield* journal.recall(one)).toEqual(fresh)
        yield* journal.confirmed(one, true)
        expect(yield* journal.recall(one)).toMatchObject({ _tag: "Running" })
        yield* journal.settle(one, answer("1"))
        yield* journal.confirmed(one, true)
        yield* journal.confirmed(one, true)
        expect(yield* journal.recall(one)).toEqual(answered("1", true))
      })
    )

    about(
      "cannot recognise a request without message_id: it is always fresh, and leaves nothing behind",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request(undefined)
        expect(yield* journal.recall(one)).toEqual(fresh)
        expect(yield* journal.recall(one)).toEqual(fresh)
        yield* journal.settle(one, answer("1"))
        expect(yield* journal.recall(one)).toEqual(fresh)
        yield* journal.confirmed(one, true)
        expect(yield* journal.recall(one)).toEqual(fresh)
        yield* journal.withdraw(one)
        expect(yield* journal.recall(one)).toEqual(fresh)
        // Nor does it touch a named request, should their digests be the same.
        const named = request("m-1", "nameless")
        yield* journal.recall(named)
        yield* journal.withdraw(one)
        expect(yield* journal.recall(named)).toMatchObject({ _tag: "Running" })
      })
    )

    about(
      "gives back the answer's bytes, outcome, status and attempts as they were",
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        const odd: Answer = { outcome: "unknown", body: Buffer.from([0, 0xff, 0x7b]), status: undefined, attempts: 6 }
        yield* journal.recall(one)
        yield* journal.settle(one, odd)
        yield* journal.confirmed(one, true)
        expect(yield* journal.recall(one)).toEqual({ _tag: "Answered", answer: odd, confirmed: true })
      })
    )
  })
}

suite("memory", Journal.layerMemory)

/** A journal in memory that is soon full: of ten small answers at most, and of twenty that wait for their confirm. */
const small = Layer.sync(Journal, () => journalInMemory({ confirmed: 10 * 500, unconfirmed: 20 * 500 }))

const hundredBytes = "x".repeat(100)

const ids = (count: number) => Array.from({ length: count }, (_, index) => request(`m-${index}`))

effect("memory is bounded: the oldest confirmed answers go first", () =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const many = ids(1_000)
    for (const one of many) yield* done(one, hundredBytes)
    const known = yield* Effect.forEach(many, journal.recall)
    expect(known.slice(0, 990).every(({ _tag }) => _tag === "Fresh")).toBe(true)
    expect(known.slice(990)).toEqual(Array(10).fill(answered(hundredBytes, true)))
  }).pipe(Effect.provide(small))
)

effect("memory is bounded: a large answer pushes out many small ones, and one that is too large keeps nothing", () =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const [first, second, third, others] = [request("first"), request("second"), request("third"), ids(5)]
    for (const one of others) yield* done(one, hundredBytes)
    yield* done(first, "x".repeat(4_000))
    const kept = yield* Effect.forEach(others, journal.recall)
    expect(kept.map(({ _tag }) => _tag)).toEqual(["Fresh", "Fresh", "Fresh", "Fresh", "Answered"])
    yield* done(second, "x".repeat(10_000))
    expect(yield* journal.recall(second)).toEqual(fresh)
    yield* done(third, "1")
    expect(yield* journal.recall(third)).toEqual(answered("1", true))
  }).pipe(Effect.provide(small))
)

effect("what is not confirmed outlives what is, and what runs outlives both", () =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const running = request("running")
    const waiting = ids(20)
    yield* journal.recall(running)
    for (const one of waiting) {
      yield* journal.recall(one)
      yield* journal.settle(one, answer(hundredBytes))
    }
    for (let index = 0; index < 500; index++) yield* done(request(`later-${index}`), hundredBytes)
    expect(yield* Effect.forEach(waiting.slice(1), journal.recall)).toEqual(
      Array(19).fill(answered(hundredBytes, false))
    )
    expect(yield* journal.recall(running)).toMatchObject({ _tag: "Running" })
  }).pipe(Effect.provide(small))
)

effect("even what is not confirmed is bounded", () =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const many = ids(100)
    for (const one of many) {
      yield* journal.recall(one)
      yield* journal.settle(one, answer(hundredBytes))
    }
    const known = yield* Effect.forEach(many, journal.recall)
    expect(known.filter(({ _tag }) => _tag === "Answered").length).toBe(20)
    expect(known.at(-1)).toEqual(answered(hundredBytes, false))
  }).pipe(Effect.provide(small))
)

effect("an answer that was asked for again counts as new", () =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const first = request("first")
    yield* done(first, hundredBytes)
    for (let index = 0; index < 100; index++) {
      yield* done(request(`other-${index}`), hundredBytes)
      // It came again, was answered from memory, and the broker confirmed that, too.
      if (index % 5 === 0) yield* journal.confirmed(first, true)
    }
    expect(yield* journal.recall(first)).toEqual(answered(hundredBytes, true))
  }).pipe(Effect.provide(small))
)
