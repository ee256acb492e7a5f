import { expect, test } from "bun:test"
import { Effect, Logger, References } from "effect"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { type Event, events, tell } from "../src/events.ts"
import { effect } from "./effect.ts"

const names = Object.keys(events) as ReadonlyArray<Event>
const source = fileURLToPath(new URL("../src", import.meta.url))

test("every event is told somewhere, and reads as one line for a person", () => {
  const files = [...new Bun.Glob("**/*.ts").scanSync(source)].filter((file) => file !== "events.ts")
  const code = files.map((file) => readFileSync(`${source}/${file}`, "utf8")).join("\n")
  expect(names.filter((name) => !code.includes(`"${name}"`))).toEqual([])
  for (const name of names) {
    const [, text] = events[name]
    expect(name).toMatch(/^[a-z]+(-[a-z]+)*$/)
    expect(text).toMatch(/^[A-Z][^\n]*[^.\s]$/)
  }
  expect(new Set(Object.values(events).map(([, text]) => text)).size).toBe(names.length)
})

effect("an event is logged at its level, with its name and its fields", () =>
  Effect.gen(function* () {
    const lines: Array<unknown> = []
    const keep = Logger.make(({ fiber, logLevel, message }) => {
      lines.push({ logLevel, message: [message].flat(), ...fiber.getRef(References.CurrentLogAnnotations) })
    })
    yield* Effect.forEach(names, (name) => tell(name, { reason: "why", count: 1 })).pipe(
      Effect.provide(Logger.layer([keep])),
      Effect.provideService(References.MinimumLogLevel, "All")
    )
    expect(lines).toEqual(
      names.map((event) => ({
        logLevel: events[event][0],
        message: [events[event][1]],
        event,
        reason: "why",
        count: 1
      }))
    )
  })
)
