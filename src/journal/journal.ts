import { Context, Deferred, Effect, Layer } from "effect"
import type { Answer } from "../message/answer.ts"
import type { Request } from "../message/request.ts"

/** What is known of a request that has just arrived. */
export type Known =
  /** Nothing: it is marked as running now, and whoever asked has to settle or withdraw it. */
  | { readonly _tag: "Fresh" }
  /** It is on its way. `answer` waits; undefined means that it was withdrawn without being sent. */
  | { readonly _tag: "Running"; readonly answer: Effect.Effect<Answer | undefined> }
  /** It was answered before. `confirmed`: the producer has that answer, as far as the broker knows. */
  | { readonly _tag: "Answered"; readonly answer: Answer; readonly confirmed: boolean }

/**
 * What was asked and what was answered, so that a write is never done twice. A request without message_id cannot be
 * recognised again and is always fresh.
 */
export class Journal extends Context.Service<
  Journal,
  {
    readonly recall: (request: Request) => Effect.Effect<Known>
    /** The request was not sent, and will not be by the one who asked. */
    readonly withdraw: (request: Request) => Effect.Effect<void>
    /** The answer is known; it is kept until it is confirmed at least. */
    readonly settle: (request: Request, answer: Answer) => Effect.Effect<void>
    /** The broker has the answer. Unless it is to be remembered, the same request is fresh from now on. */
    readonly confirmed: (request: Request, remember: boolean) => Effect.Effect<void>
  }
>()("b24rmq/Journal") {
  /** Remembers while the process lives, the oldest forgotten first. */
  static readonly layerMemory = Layer.sync(Journal, () => remember(32 * 1024 * 1024))
}

type Entry =
  | { readonly _tag: "Running"; readonly answer: Deferred.Deferred<Answer | undefined> }
  | { readonly _tag: "Answered"; readonly answer: Answer; readonly confirmed: boolean }

/** What an entry costs besides its answer's bytes, roughly. */
const overhead = 400

/** A journal in memory that holds answers of `most` bytes. What runs is never forgotten: the prefetch bounds it. */
const remember = (most: number): Journal["Service"] => {
  const entries = new Map<string, Entry>()
  let held = 0

  const drop = (id: string) => {
    const entry = entries.get(id)
    if (entry === undefined) return
    entries.delete(id)
    if (entry._tag === "Answered") held -= entry.answer.body.length + overhead
  }

  const keep = (id: string, answer: Answer, confirmed: boolean) => {
    drop(id)
    entries.set(id, { _tag: "Answered", answer, confirmed })
    held += answer.body.length + overhead
    for (const [oldest, entry] of entries) {
      if (held <= most) break
      if (entry._tag === "Answered") drop(oldest)
    }
  }

  const end = (id: string, answer: Answer | undefined) => {
    const entry = entries.get(id)
    if (entry?._tag === "Running") Deferred.doneUnsafe(entry.answer, Effect.succeed(answer))
  }

  return Journal.of({
    recall: (request) =>
      Effect.sync(() => {
        if (request.messageId === undefined) return { _tag: "Fresh" }
        const entry = entries.get(request.id)
        if (entry === undefined) {
          entries.set(request.id, { _tag: "Running", answer: Deferred.makeUnsafe() })
          return { _tag: "Fresh" }
        }
        return entry._tag === "Answered" ? entry : { _tag: "Running", answer: Deferred.await(entry.answer) }
      }),
    withdraw: (request) =>
      Effect.sync(() => {
        end(request.id, undefined)
        drop(request.id)
      }),
    settle: (request, answer) =>
      Effect.sync(() => {
        if (request.messageId === undefined) return
        end(request.id, answer)
        keep(request.id, answer, false)
      }),
    confirmed: (request, remember) =>
      Effect.sync(() => {
        const entry = entries.get(request.id)
        if (entry?._tag !== "Answered") return
        if (remember) keep(request.id, entry.answer, true)
        else drop(request.id)
      })
  })
}
