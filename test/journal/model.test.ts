import { afterAll, expect, test } from "bun:test"
import { copyFileSync, existsSync } from "node:fs"
import { Effect, Exit, Layer, Redacted, Scope } from "effect"
import { TestClock } from "effect/testing"
import fc from "fast-check"
import { Journal } from "../../src/journal/journal.ts"
import type { Known } from "../../src/journal/known.ts"
import { openPostgres } from "../../src/journal/postgres.ts"
import { openSqlite } from "../../src/journal/sqlite.ts"
import { folderOfProcess } from "../rig/child.ts"
import { type Postgres, startPostgres } from "../rig/postgres.ts"
import { answer, departing, request, settings } from "./requests.ts"

// Random traces against a model of a few lines. What a caller may not do (settle what it does not own) is left out.

interface Model {
  running: boolean
  departures: number
  /** What a withdrawal returns to. */
  before: number
  answer: string | undefined
  refused: boolean
  confirmed: boolean
}

const unknown: Model = {
  running: false,
  departures: 0,
  before: 0,
  answer: undefined,
  refused: false,
  confirmed: false
}

/** What recall must say, and what the model is afterwards. */
const recalled = (model: Model): readonly [object, Model] => {
  if (model.running) return [{ _tag: "Running" }, model]
  if (model.answer !== undefined) {
    const said = answer(model.answer, model.refused ? "refused" : "done")
    return [{ _tag: "Answered", answer: said, confirmed: model.confirmed }, model]
  }
  const next = { ...model, running: true, before: model.departures }
  return model.departures > 0
    ? [{ _tag: "InDoubt", sent: { at: 0, firstAt: 0, attempts: model.departures, stamped: false } }, next]
    : [{ _tag: "Fresh" }, next]
}

const matches = (known: Known, wanted: object) => {
  try {
    if ("answer" in wanted) expect(known).toEqual(wanted as Known)
    else expect(known).toMatchObject(wanted)
    return true
  } catch {
    return false
  }
}

type Step =
  | { readonly what: "recall" | "release" | "withdraw" | "forget" | "confirm"; readonly id: number }
  | { readonly what: "intend"; readonly ids: ReadonlyArray<number> }
  | { readonly what: "settle"; readonly id: number; readonly refused: boolean }
  | { readonly what: "restart" | "kill" }

const id = fc.integer({ min: 0, max: 3 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ what: fc.constant("recall" as const), id }) },
  {
    weight: 4,
    arbitrary: fc.record({ what: fc.constant("intend" as const), ids: fc.uniqueArray(id, { minLength: 1 }) })
  },
  { weight: 4, arbitrary: fc.record({ what: fc.constant("settle" as const), id, refused: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ what: fc.constantFrom("release", "withdraw", "forget", "confirm"), id }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constantFrom("restart", "kill") }) }
)

/** A place where the journal of one trace lies. `killed`: what a kill at this moment leaves, as another place. */
interface Place {
  readonly layer: Layer.Layer<Journal>
  readonly killed: (() => Place) | undefined
}

const follow = (place: Place | undefined, steps: ReadonlyArray<Step>) =>
  Effect.gen(function* () {
    const models = new Map<number, Model>()
    /** What is on disk where the last thing that happened to a request need not be there yet. */
    const older = new Map<number, Model>()
    /** After a kill nothing comes any more that would write it: one or the other, until it is seen. */
    const either = new Map<number, Model>()
    let here = place ?? { layer: Journal.layerMemory, killed: undefined }
    let texts = 0
    const open = Effect.gen(function* () {
      const scope = yield* Scope.make()
      const journal = yield* Layer.buildWithScope(Layer.fresh(here.layer), scope).pipe(
        Effect.flatMap((context) => Effect.provide(Journal, context))
      )
      return { scope, journal }
    })
    let { scope, journal } = yield* open
    const modelOf = (id: number) => models.get(id) ?? unknown
    const change = (id: number, by: Partial<Model>) => models.set(id, { ...modelOf(id), ...by })
    const lazily = (id: number, by: Partial<Model>) => {
      if (!older.has(id)) older.set(id, modelOf(id))
      change(id, by)
    }
    for (const step of steps) {
      switch (step.what) {
        case "recall": {
          // What is under way is known without the disk.
          const runs = modelOf(step.id).running
          const known = yield* journal.recall(request(`m-${step.id}`), false)
          const [wanted, next] = recalled(modelOf(step.id))
          const before = runs ? undefined : (either.get(step.id) ?? older.get(step.id))
          const [other, otherNext] = before === undefined ? [wanted, next] : recalled(before)
          if (before !== undefined && !matches(known, wanted)) {
            if (!matches(known, other)) expect([known]).toEqual([wanted, other] as never)
            models.set(step.id, otherNext)
          } else {
            if ("answer" in wanted) expect(known).toEqual(wanted as Known)
            else expect(known).toMatchObject(wanted)
            models.set(step.id, next)
          }
          if (!runs) for (const map of [older, either]) map.delete(step.id)
          break
        }
        case "intend": {
          const owned = step.ids.filter((id) => modelOf(id).running)
          if (owned.length === 0) break
          yield* journal.intend(departing(...owned.map((id) => request(`m-${id}`))))
          for (const id of owned) {
            const { departures } = modelOf(id)
            change(id, { before: departures, departures: departures + 1 })
          }
          older.clear()
          break
        }
        case "settle": {
          if (!modelOf(step.id).running) break
          const text = `${++texts}`
          yield* journal.settle(request(`m-${step.id}`), answer(text, step.refused ? "refused" : "done"))
          change(step.id, { running: false, answer: text, refused: step.refused, confirmed: false })
          older.clear()
          break
        }
        case "release":
          if (!modelOf(step.id).running) break
          yield* journal.release(request(`m-${step.id}`))
          change(step.id, { running: false })
          break
        case "withdraw":
          if (!modelOf(step.id).running) break
          yield* journal.withdraw(departing(request(`m-${step.id}`)))
          lazily(step.id, { departures: modelOf(step.id).before })
          break
        case "confirm":
        case "forget": {
          const { running, answer, refused } = modelOf(step.id)
          if (running || answer === undefined || (step.what === "forget" && !refused)) break
          yield* journal.confirmed(request(`m-${step.id}`), step.what === "confirm" ? "done" : "refused", false)
          lazily(step.id, step.what === "confirm" ? { confirmed: true } : unknown)
          break
        }
        case "restart":
        case "kill": {
          const after = step.what === "kill" ? here.killed?.() : here
          if (place === undefined || after === undefined) break
          yield* Scope.close(scope, Exit.void)
          here = after
          if (step.what === "kill") for (const [id, model] of older) if (!either.has(id)) either.set(id, model)
          older.clear()
          for (const map of [models, either]) {
            for (const [id, model] of map) map.set(id, { ...model, running: false })
          }
          ;({ scope, journal } = yield* open)
          yield* journal.recallKey("anything")
          break
        }
      }
    }
    yield* Scope.close(scope, Exit.void)
  }).pipe(Effect.scoped, Effect.provide(TestClock.layer()), Effect.runPromise)

const check = (place: () => Promise<Place> | undefined, numRuns: number) =>
  fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40, size: "max" }), async (steps) => {
      await follow(await place(), steps)
    }),
    { numRuns }
  )

const scope = Scope.makeUnsafe()
let started: Promise<Postgres> | undefined
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 20_000)

test("in memory it is as the model says", () => check(() => undefined, 500), 60_000)

const atFile = (file: string): Place => ({
  layer: Journal.layerOn(openSqlite(file), settings()),
  // This process writes and copies on one thread: what lies there between two statements is what a kill would leave.
  killed: () => {
    const copy = `${file}k`
    for (const end of ["", "-wal"]) if (existsSync(file + end)) copyFileSync(file + end, copy + end)
    return atFile(copy)
  }
})

test(
  "in a file it is as the model says, restarted and killed at any moment",
  () => check(async () => atFile(`${folderOfProcess("model")}/j`), 150),
  120_000
)

test(
  "in PostgreSQL it is as the model says, restarted at any moment",
  () =>
    check(async () => {
      const server = await (started ??= Effect.runPromise(Scope.provide(startPostgres(), scope)))
      const url = Redacted.make(await Effect.runPromise(server.database))
      return {
        layer: Journal.layerOn(openPostgres({ _tag: "Database", url, schema: "b24rmq_test" }), settings()),
        killed: undefined
      }
    }, 40),
  120_000
)
