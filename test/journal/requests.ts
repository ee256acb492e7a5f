import { Duration, Effect, Redacted, Stream, SubscriptionRef } from "effect"
import { Journal } from "../../src/journal/journal.ts"
import type { Departing, JournalState } from "../../src/journal/known.ts"
import type { Answer } from "../../src/message/answer.ts"
import type { Request } from "../../src/message/request.ts"

/** The secret in every request: no journal may hold it. */
export const token = "canary0token"

export const request = (messageId: string | undefined, id = messageId ?? "nameless"): Request => ({
  id,
  messageId,
  correlationId: undefined,
  method: "crm.deal.add",
  user: "1",
  token: Redacted.make(token),
  credential: "1#abcdef01",
  body: Buffer.from('{"canary0body":1}'),
  parameters: {},
  order: undefined
})

export const departing = (...requests: ReadonlyArray<Request>): ReadonlyArray<Departing> =>
  requests.map((request) => ({ request, isRead: false, queue: "in" }))

export const answer = (text: string, outcome: Answer["outcome"] = "done"): Answer => ({
  outcome,
  body: Buffer.from(text),
  status: 200,
  attempts: 1
})

export const fresh = { _tag: "Fresh" } as const
export const answered = (text: string, confirmed: boolean) =>
  ({ _tag: "Answered", answer: answer(text), confirmed }) as const

/** Asks, settles and confirms, as for a request that went well. */
export const done = Effect.fnUntraced(function* (one: Request, text: string) {
  const journal = yield* Journal
  yield* journal.recall(one, false)
  yield* Effect.orDie(journal.intend(departing(one)))
  yield* journal.settle(one, answer(text))
  yield* journal.confirmed(one, "done", false)
})

/** What the durable journals need of the settings. */
export const settings = (
  options: { readonly keep?: Duration.Input; readonly most?: number; readonly portal?: string } = {}
) => ({
  b24Rest: new URL(options.portal ?? "https://portal.example/rest/"),
  journalKeep: Duration.fromInputUnsafe(options.keep ?? "24 hours"),
  journalMax: options.most ?? 1_000_000_000
})

/** Waits until the journal is in a state. */
export const becomes = (wanted: JournalState["_tag"]) =>
  Effect.flatMap(Journal, ({ state }) =>
    SubscriptionRef.changes(state).pipe(
      Stream.filter(({ _tag }) => _tag === wanted),
      Stream.runHead
    )
  )
