import { Data, type Effect } from "effect"
import type { Answer } from "../message/answer.ts"
import type { Request } from "../message/request.ts"
import type { Sent } from "./store.ts"

/** What is known of a request that has just arrived. */
export type Known =
  /** Nothing: it is marked as running now, and whoever asked has to settle or release it. */
  | { readonly _tag: "Fresh" }
  /** It is on its way. `answer` waits; undefined means that it was released without an answer. */
  | { readonly _tag: "Running"; readonly answer: Effect.Effect<Answer | undefined> }
  /** It was answered before. `confirmed`: the producer has that answer, as far as the broker knows. */
  | { readonly _tag: "Answered"; readonly answer: Answer; readonly confirmed: boolean }
  /**
   * It left for the portal, in this process or in one before, and nobody wrote down what came of it. It is marked as
   * running now, as a fresh one is.
   */
  | { readonly _tag: "InDoubt"; readonly sent: Sent }

/** A request about to leave, as the waiting room knows it. */
export interface Departing {
  readonly request: Request
  readonly isRead: boolean
  /** The queue that it came from. */
  readonly queue: string
}

export type JournalState =
  | { readonly _tag: "opening" }
  /** Writes may leave. */
  | { readonly _tag: "ready" }
  /** Another process holds the journal, or has taken it over. */
  | { readonly _tag: "standby" }
  /** It cannot be written. It is tried again without end. */
  | { readonly _tag: "failed"; readonly reason: string }

/** The intents are not on disk: the writes must not be sent. They may be tried again once the state is `ready`. */
export class JournalFailed extends Data.TaggedError("JournalFailed")<{ readonly reason: string }> {
  override get message() {
    return `the journal cannot be written: ${this.reason}`
  }
}

/**
 * While this process was without the journal, another one took up these requests: they must not be sent. Released and
 * recalled, they are Answered or InDoubt. Of the others that were to leave with them no intent was written either.
 */
export class Overtaken extends Data.TaggedError("Overtaken")<{ readonly requests: ReadonlyArray<Request> }> {
  override get message() {
    return `another bridge has taken up ${this.requests.length} of the requests`
  }
}
