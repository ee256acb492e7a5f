import { Clock, Deferred, Effect, SubscriptionRef } from "effect"
import { type Answer, isRefusal } from "../message/answer.ts"
import type { Request } from "../message/request.ts"
import type { Journal } from "./journal.ts"
import type { Departing, JournalState, Known } from "./known.ts"
import { departed } from "./row.ts"
import type { Sent } from "./store.ts"

/** What an entry costs besides its answer's bytes, roughly. */
const overhead = 400

/** Answers by request, the oldest first. Whatever exceeds `most` bytes is forgotten. */
export const answersUpTo = (most: number) => {
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

interface Running {
  readonly answer: Deferred.Deferred<Answer | undefined>
  sent: Sent | undefined
  before: Sent | undefined
}

/**
 * A journal in memory that holds answers of so many bytes. What runs is never forgotten: the prefetch bounds it, as it
 * bounds what waits for its confirm, unless links are lost again and again: hence the second, wider bound.
 */
export const journalInMemory = Effect.fnUntraced(function* (most: {
  readonly confirmed: number
  readonly unconfirmed: number
}): Effect.fn.Return<Journal["Service"]> {
  const clock = yield* Clock.Clock
  const running = new Map<string, Running>()
  const doubts = new Map<string, Sent>()
  const unconfirmed = answersUpTo(most.unconfirmed)
  const confirmed = answersUpTo(most.confirmed)
  const values = new Map<string, string>()

  const end = (id: string, answer: Answer | undefined) => {
    const ended = running.get(id)
    running.delete(id)
    if (ended !== undefined) Deferred.doneUnsafe(ended.answer, Effect.succeed(answer))
    return ended
  }

  const known = (id: string): Known => {
    const twin = running.get(id)
    if (twin !== undefined) return { _tag: "Running", answer: Deferred.await(twin.answer) }
    const waiting = unconfirmed.get(id)
    if (waiting !== undefined) return { _tag: "Answered", answer: waiting, confirmed: false }
    const past = confirmed.get(id)
    if (past !== undefined) return { _tag: "Answered", answer: past, confirmed: true }
    const doubt = doubts.get(id)
    doubts.delete(id)
    running.set(id, { answer: Deferred.makeUnsafe(), sent: doubt, before: doubt })
    return doubt === undefined ? { _tag: "Fresh" } : { _tag: "InDoubt", sent: doubt }
  }

  const named = (act: (request: Request) => void) => (request: Request) =>
    Effect.sync(() => {
      if (request.messageId !== undefined) act(request)
    })

  const eachWrite = (departing: ReadonlyArray<Departing>, act: (entry: Running, request: Request) => void) =>
    Effect.sync(() => {
      for (const { request, isRead } of departing) {
        const entry = isRead || request.messageId === undefined ? undefined : running.get(request.id)
        if (entry !== undefined) act(entry, request)
      }
    })

  return {
    recall: (request) =>
      Effect.sync(() => (request.messageId === undefined ? ({ _tag: "Fresh" } as const) : known(request.id))),
    intend: (departing) =>
      eachWrite(departing, (entry, request) => {
        entry.before = entry.sent
        entry.sent = departed(entry.sent, request, clock.currentTimeMillisUnsafe())
      }),
    withdraw: (departing) =>
      eachWrite(departing, (entry) => {
        entry.sent = entry.before
      }),
    release: named(({ id }) => {
      const sent = end(id, undefined)?.sent
      if (sent !== undefined) doubts.set(id, sent)
    }),
    settle: (request, answer) =>
      named(({ id }) => {
        unconfirmed.keep(id, answer)
        end(id, answer)
      })(request),
    confirmed: ({ id }, outcome, isRead) =>
      Effect.sync(() => {
        const answer = unconfirmed.get(id) ?? confirmed.get(id)
        if (!isRead && isRefusal(outcome) && answer !== undefined && !isRefusal(answer.outcome)) return
        unconfirmed.drop(id)
        if (isRead || isRefusal(outcome)) confirmed.drop(id)
        else if (answer !== undefined) confirmed.keep(id, answer)
      }),
    state: yield* SubscriptionRef.make<JournalState>({ _tag: "ready" }),
    lostMemorySince: Effect.void as Effect.Effect<undefined>,
    remember: (key, value) => Effect.sync(() => void values.set(key, value)),
    recallKey: (key) => Effect.sync(() => values.get(key)),
    find: () => Effect.succeed([])
  }
})
