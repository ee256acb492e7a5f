import { expect } from "bun:test"
import { Effect, Layer } from "effect"
import { Journal } from "../../src/journal/journal.ts"
import { journalInMemory } from "../../src/journal/memory.ts"
import { effect } from "../effect.ts"
import { answer, answered, done, fresh, request } from "./requests.ts"

/** A journal in memory that is soon full: of ten small answers at most, and of twenty that wait for their confirm. */
const small = Layer.effect(
  Journal,
  Effect.suspend(() => journalInMemory({ confirmed: 10 * 500, unconfirmed: 20 * 500 }))
)

const hundredBytes = "x".repeat(100)

const ids = (count: number) => Array.from({ length: count }, (_, index) => request(`m-${index}`))

effect("memory is bounded: the oldest confirmed answers go first", () =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const many = ids(1_000)
    for (const one of many) yield* done(one, hundredBytes)
    const known = yield* Effect.forEach(many, (one) => journal.recall(one, false))
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
    const kept = yield* Effect.forEach(others, (one) => journal.recall(one, false))
    expect(kept.map(({ _tag }) => _tag)).toEqual(["Fresh", "Fresh", "Fresh", "Fresh", "Answered"])
    yield* done(second, "x".repeat(10_000))
    expect(yield* journal.recall(second, false)).toEqual(fresh)
    yield* done(third, "1")
    expect(yield* journal.recall(third, false)).toEqual(answered("1", true))
  }).pipe(Effect.provide(small))
)

effect("what is not confirmed outlives what is, and what runs outlives both", () =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const running = request("running")
    const waiting = ids(20)
    yield* journal.recall(running, false)
    for (const one of waiting) {
      yield* journal.recall(one, false)
      yield* journal.settle(one, answer(hundredBytes))
    }
    for (let index = 0; index < 500; index++) yield* done(request(`later-${index}`), hundredBytes)
    expect(yield* Effect.forEach(waiting.slice(1), (one) => journal.recall(one, false))).toEqual(
      Array(19).fill(answered(hundredBytes, false))
    )
    expect(yield* journal.recall(running, false)).toMatchObject({ _tag: "Running" })
  }).pipe(Effect.provide(small))
)

effect("even what is not confirmed is bounded", () =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const many = ids(100)
    for (const one of many) {
      yield* journal.recall(one, false)
      yield* journal.settle(one, answer(hundredBytes))
    }
    const known = yield* Effect.forEach(many, (one) => journal.recall(one, false))
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
      if (index % 5 === 0) yield* journal.confirmed(first, "done", false)
    }
    expect(yield* journal.recall(first, false)).toEqual(answered(hundredBytes, true))
  }).pipe(Effect.provide(small))
)
