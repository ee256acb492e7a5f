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
  static readonly layerMemory = Layer.sync(Journal, () =>
    journalInMemory({ confirmed: 32 * MiB, unconfirmed: 256 * MiB })
  )
}

const MiB = 1024 * 1024

/** What an entry costs besides its answer's bytes, roughly. */
const overhead = 400

/** Answers by request, the oldest first. Whatever exceeds `most` bytes is forgotten. */
const answersUpTo = (most: number) => {
  const answers = new Map<string, Answer>()
  let held = 0
  const drop = (id: string) => {
    const answer = answers.get(id)
    if (answer !== undefined) held -= answer.body.length + overhead
    answers.delete(id)
  }
  return {
    get: (id: string) => answers.get(id),
    drop,
    keep: (id: string, answer: Answer) => {
      drop(id)
      answers.set(id, answer)
      held += answer.body.length + overhead
      for (const oldest of answers.keys()) {
        if (held <= most) break
        drop(oldest)
      }
    }
  }
}

/**
 * A journal in memory that holds answers of so many bytes. What runs is never forgotten: the prefetch bounds it, as it
 * bounds what waits for its confirm, unless links are lost again and again: hence the second, wider bound.
 */
export const journalInMemory = (most: {
  readonly confirmed: number
  readonly unconfirmed: number
}): Journal["Service"] => {
  const running = new Map<string, Deferred.Deferred<Answer | undefined>>()
  const unconfirmed = answersUpTo(most.unconfirmed)
  const confirmed = answersUpTo(most.confirmed)

  const end = (id: string, answer: Answer | undefined) => {
    const waiting = running.get(id)
    running.delete(id)
    if (waiting !== undefined) Deferred.doneUnsafe(waiting, Effect.succeed(answer))
  }

  const known = (id: string): Known => {
    const twin = running.get(id)
    if (twin !== undefined) return { _tag: "Running", answer: Deferred.await(twin) }
    const waiting = unconfirmed.get(id)
    if (waiting !== undefined) return { _tag: "Answered", answer: waiting, confirmed: false }
    const past = confirmed.get(id)
    if (past !== undefined) return { _tag: "Answered", answer: past, confirmed: true }
    running.set(id, Deferred.makeUnsafe())
    return { _tag: "Fresh" }
  }

  return Journal.of({
    recall: (request) =>
      Effect.sync(() => (request.messageId === undefined ? ({ _tag: "Fresh" } as const) : known(request.id))),
    withdraw: (request) =>
      Effect.sync(() => {
        if (request.messageId !== undefined) end(request.id, undefined)
      }),
    settle: (request, answer) =>
      Effect.sync(() => {
        if (request.messageId === undefined) return
        unconfirmed.keep(request.id, answer)
        end(request.id, answer)
      }),
    confirmed: (request, remember) =>
      Effect.sync(() => {
        const answer = unconfirmed.get(request.id) ?? confirmed.get(request.id)
        unconfirmed.drop(request.id)
        if (remember && answer !== undefined) confirmed.keep(request.id, answer)
        else confirmed.drop(request.id)
      })
  })
}
