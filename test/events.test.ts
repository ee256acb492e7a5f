import { describe, expect, test } from "bun:test"
import { Effect, Logger, References } from "effect"
import { TestClock } from "effect/testing"
import fc from "fast-check"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { Counts, type Event, events, layerRepeats, tell, TellsAll } from "../src/events.ts"
import { effect } from "./effect.ts"
import { documents, eventsIn, eventsTable } from "./events-table.ts"

const names = Object.keys(events) as ReadonlyArray<Event>
const source = fileURLToPath(new URL("../src", import.meta.url))
const files = [...new Bun.Glob("**/*.ts").scanSync(source)].filter((file) => file !== "events.ts")
const code = files.map((file) => readFileSync(`${source}/${file}`, "utf8")).join("\n")

test("every event is told somewhere, and reads as one line for a person", () => {
  expect(names.filter((name) => !code.includes(`"${name}"`))).toEqual([])
  for (const name of names) {
    const [, text] = events[name]
    expect(name).toMatch(/^[a-z]+(-[a-z]+)*$/)
    expect(text).toMatch(/^[A-Z][^\n]*[^.\s]$/)
  }
  expect(new Set(Object.values(events).map(([, text]) => text)).size).toBe(names.length)
})

test("every field is filled in somewhere, and those that tell kinds apart are fields", () => {
  const fields = new Set(names.flatMap((name): ReadonlyArray<string> => events[name][2]))
  expect([...fields].filter((field) => !new RegExp(`\\b${field}\\b\\s*[:,}]`).test(code))).toEqual([])
  for (const name of names) {
    const [, , own, repeating]: readonly [unknown, unknown, ReadonlyArray<string>, { by: ReadonlyArray<string> }?] =
      events[name]
    expect([name, (repeating?.by ?? []).filter((field) => !own.includes(field))]).toEqual([name, []])
  }
})

for (const language of ["en", "ru"] as const)
  test(`${documents[language]} lists the events (bun test/events-table.ts --write)`, () =>
    expect(eventsIn(language)).toBe(eventsTable(language)))

/** What is logged, as its annotations. */
const logged = () => {
  const lines: Array<Readonly<Record<string, unknown>>> = []
  const keep = Logger.make(({ fiber, logLevel, message }) => {
    lines.push({ logLevel, message: [message].flat(), ...fiber.getRef(References.CurrentLogAnnotations) })
  })
  return { lines, layer: Logger.layer([keep]) }
}

effect("an event is logged at its level, with its name and its fields", () =>
  Effect.gen(function* () {
    const { lines, layer } = logged()
    yield* Effect.forEach(names, (name) => tell(name, { reason: "why", seconds: 1 })).pipe(
      Effect.provide(layer),
      Effect.provideService(References.MinimumLogLevel, "All")
    )
    expect(lines).toEqual(
      names.map((event) => ({
        logLevel: events[event][0],
        message: [events[event][1]],
        event,
        reason: "why",
        seconds: 1
      }))
    )
  })
)

describe("what comes again and again", () => {
  const rejected = (code: string, id: number) => tell("request-rejected", { message_id: `m-${id}`, code })
  const flood = Effect.gen(function* () {
    for (let second = 0; second < 150; second++) {
      for (let n = 0; n < 100; n++) yield* rejected("B24RMQ_NO_METHOD", second * 100 + n)
      if (second === 5) yield* rejected("B24RMQ_BAD_TOKEN", -1)
      yield* TestClock.adjust("1 second")
    }
    yield* TestClock.adjust("3 minutes")
    yield* rejected("B24RMQ_NO_METHOD", -2)
    yield* rejected("B24RMQ_NO_METHOD", -3)
  })

  effect("is told at once, then in a line a minute with a count; a stop tells the rest", () =>
    Effect.gen(function* () {
      const { lines, layer } = logged()
      yield* flood.pipe(Effect.provide(layerRepeats), Effect.provide(layer))
      const short = lines.map(({ code, message_id, more }) => [code, message_id, more])
      expect(short).toEqual([
        ["B24RMQ_NO_METHOD", "m-0", undefined],
        ["B24RMQ_BAD_TOKEN", "m--1", undefined],
        ["B24RMQ_NO_METHOD", "m-5999", 5_999],
        ["B24RMQ_NO_METHOD", "m-11999", 6_000],
        ["B24RMQ_NO_METHOD", "m-14999", 3_000],
        // A minute of silence makes it news again.
        ["B24RMQ_NO_METHOD", "m--2", undefined],
        ["B24RMQ_NO_METHOD", "m--3", 1]
      ])
      expect(lines[2]?.["message"]).toEqual([`${events["request-rejected"][1]} (5999 more of this kind)`])
    })
  )

  effect("is told each time to whoever asks for debug", () =>
    Effect.gen(function* () {
      const { lines, layer } = logged()
      yield* flood.pipe(
        Effect.provide(layerRepeats),
        Effect.provide(layer),
        Effect.provideService(TellsAll, () => true)
      )
      expect(lines).toHaveLength(15_003)
    })
  )

  test("is counted in full, whatever its kinds, in bounded memory and few lines", () => {
    const step = fc.record({
      event: fc.constantFrom<Event>("request-rejected", "outcome-in-doubt", "answer-too-large", "consuming"),
      kind: fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 1_000_000 })),
      pause: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 100_000 }))
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 500, size: "max" }), (steps) => {
        const counts = new Counts()
        const seen = new Map<Event, number>()
        let at = 0
        for (const { event, kind, pause } of steps) {
          at += pause
          for (const { event, more } of counts.due(at)) seen.set(event, (seen.get(event) ?? 0) + more)
          if (counts.admits(event, { code: kind, method: kind }, at)) seen.set(event, (seen.get(event) ?? 0) + 1)
        }
        for (const { event, more } of counts.due(Infinity)) seen.set(event, (seen.get(event) ?? 0) + more)
        expect(seen).toEqual(
          new Map([...Map.groupBy(steps, ({ event }) => event)].map(([event, all]) => [event, all.length]))
        )
      })
    )
    const counts = new Counts()
    let told = 0
    for (let n = 0; n < 100_000; n++) if (counts.admits("request-rejected", { code: `code ${n}` }, n)) told++
    expect(told).toBeLessThanOrEqual(101)
    expect(counts.due(1_000_000).length).toBeLessThanOrEqual(101)
  })
})
