import { Data, type Effect, type Scope } from "effect"
import type { Answer } from "../message/answer.ts"

/** A write in the journal. Times are milliseconds since 1970. */
export interface Row {
  /** See `keyOf`. */
  readonly key: string
  readonly messageId: string
  readonly method: string
  /** User id and the start of the token's digest, as in `Request`. */
  readonly credential: string
  /** The queue that it came from, empty for one that never left. */
  readonly queue: string
  /** The last departure that may have been executed, and how many there are. */
  readonly sent: Sent | undefined
  /** Undefined while nobody wrote down what came of it. */
  readonly answered: Answered | undefined
}

export interface Sent {
  readonly at: number
  /** The first departure that may have been executed. */
  readonly firstAt: number
  /** It left with a stamp: what it made is to be looked for by that. */
  readonly stamped: boolean
  readonly attempts: number
}

export interface Answered {
  readonly outcome: Answer["outcome"]
  readonly status: number | undefined
  readonly attempts: number
  readonly packed: boolean
  readonly resolved: Answer["resolved"]
  /** Undefined for one that is too long to be kept, and where it was not asked for. */
  readonly body: Uint8Array | undefined
  readonly bytes: number
  /** SHA-256 of a body that is too long to be kept, base64url. */
  readonly digest: string | undefined
  /** When it was confirmed, and until then when it was answered. */
  readonly at: number
  readonly confirmed: boolean
}

/** What one transaction does, in this order. */
export interface Changes {
  /** Departures that came to nothing, by the time at which they left. Of what was answered since, nothing is undone. */
  readonly withdrawals: ReadonlyArray<{ readonly key: string; readonly at: number; readonly before: Sent | undefined }>
  /** Answers that need not be remembered. */
  readonly forgets: ReadonlyArray<string>
  /** What left and what was answered. Nothing that was answered before is changed, and no later departure. */
  readonly rows: ReadonlyArray<Row>
  readonly confirms: ReadonlyArray<{ readonly key: string; readonly at: number }>
  readonly facts: ReadonlyArray<readonly [key: string, value: string]>
}

/** Where the journal is kept. Whoever has opened it is the only one who may write; one fiber does. */
export interface Store {
  /** All of it is on disk when it returns, or none. Fails as well when another process has taken the journal over. */
  readonly commit: (changes: Changes) => Effect.Effect<void, StoreFailed>
  readonly find: (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Row>, StoreFailed>
  /** The rows whose keys begin so, without bodies. */
  readonly startingWith: (beginning: string) => Effect.Effect<ReadonlyArray<Row>, StoreFailed>
  readonly facts: Effect.Effect<ReadonlyMap<string, string>, StoreFailed>
  /** Forgets up to so many of the answers that were confirmed before, or answered and never confirmed; says how many. */
  readonly forget: (before: Before, most: number) => Effect.Effect<number, StoreFailed>
  /** Bytes in use, about. */
  readonly size: Effect.Effect<number, StoreFailed>
  /** Shows that this process lives, where others look for it. Fails once the journal is taken over. */
  readonly beat: Effect.Effect<void, StoreFailed>
}

export interface Before {
  readonly confirmed: number
  readonly unconfirmed: number
}

/** The store cannot do it. It has to be opened again before it is asked for anything else. */
export class StoreFailed extends Data.TaggedError("StoreFailed")<{
  readonly reason: string
  /** The database's own code for it. */
  readonly code?: string
  /** Another process holds the journal now. */
  readonly takenOver?: true
}> {}

export interface Opening {
  /** Another process holds it: told at each look, and looked again. */
  readonly waiting: Effect.Effect<void>
}

/** Opens a store and holds it against other processes until the scope closes. */
export type Open = (opening: Opening) => Effect.Effect<Store, StoreFailed, Scope.Scope>

/** The fact that says since when earlier memory is lost: milliseconds since 1970. */
export const lostMemory = "lost-memory-since"
