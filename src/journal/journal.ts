import { Context, Effect, Layer, type SubscriptionRef } from "effect"
import type { Answer, OutcomeWord } from "../message/answer.ts"
import type { Request } from "../message/request.ts"
import { Settings } from "../settings.ts"
import { durable, type JournalSettings } from "./durable.ts"
import type { Departing, JournalFailed, JournalState, Known, Overtaken } from "./known.ts"
import { journalInMemory } from "./memory.ts"
import { placeOf } from "./place.ts"
import { openPostgres } from "./postgres.ts"
import { openSqlite } from "./sqlite.ts"
import type { Open, Row } from "./store.ts"

/**
 * What was asked and what was answered, so that a write is never done twice. Writes outlive the process; reads, which
 * may be repeated, are remembered in memory only and until their answer is confirmed. A request without message_id
 * cannot be recognised again and is always fresh. No body and no token of a request is kept.
 */
export class Journal extends Context.Service<
  Journal,
  {
    /** Marks what is Fresh or InDoubt as running. For a write it waits while the journal cannot be read. */
    readonly recall: (request: Request, isRead: boolean) => Effect.Effect<Known>
    /**
     * When it returns, it is on disk that these writes leave now. It passes over reads and requests without a name; on
     * disk, a write that does not run is a defect: it was not recalled, or was released.
     */
    readonly intend: (departing: ReadonlyArray<Departing>) => Effect.Effect<void, JournalFailed | Overtaken>
    /**
     * These departures came to nothing: refused for the rate, or never sent. An earlier one that is in doubt stays so.
     * They are running still. Need not be waited for: until it is on disk they would come back as doubts.
     */
    readonly withdraw: (departing: ReadonlyArray<Departing>) => Effect.Effect<void>
    /** Whoever was told Fresh or InDoubt has no answer and will get none. What left and was not withdrawn is in doubt. */
    readonly release: (request: Request) => Effect.Effect<void>
    /**
     * The answer to what was Fresh or InDoubt. It is on disk when this returns. While the disk fails it is held for 30 s,
     * and written as soon as that can be done: published before, it costs nothing worse than a doubt, because the intent
     * stands on disk and a repeat is never sent blindly.
     */
    readonly settle: (request: Request, answer: Answer) => Effect.Effect<void>
    /**
     * The broker has the answer, which said this. After a refusal the same request is fresh from now on, for its cause may
     * be removed, unless it was executed since: of several deliveries one may be confirmed late. Reads are forgotten.
     */
    readonly confirmed: (request: Request, outcome: OutcomeWord, isRead: boolean) => Effect.Effect<void>
    readonly state: SubscriptionRef.SubscriptionRef<JournalState>
    /**
     * When earlier memory was lost with a damaged file, in milliseconds since 1970; undefined once that is longer ago
     * than the journal remembers. A write that is Fresh and comes flagged as redelivered may be one of the lost.
     */
    readonly lostMemorySince: Effect.Effect<number | undefined>
    /** Keeps a value beyond the process. */
    readonly remember: (key: string, value: string) => Effect.Effect<void, JournalFailed>
    /** A value that was kept. Waits until the journal has been opened. */
    readonly recallKey: (key: string) => Effect.Effect<string | undefined>
    /** The writes of a message_id, without their answers' bodies. */
    readonly find: (messageId: string) => Effect.Effect<ReadonlyArray<Row>, JournalFailed>
  }
>()("b24rmq/Journal") {
  /** Remembers while the process lives, the oldest forgotten first. */
  static readonly layerMemory = Layer.effect(
    Journal,
    Effect.suspend(() => journalInMemory({ confirmed: 32 * MiB, unconfirmed: 256 * MiB }))
  )

  /** As `B24RMQ_JOURNAL` says. */
  static readonly layer = Layer.unwrap(
    Effect.map(Settings, (settings) => {
      const place = placeOf(settings)
      switch (place._tag) {
        case "Nowhere":
          return Journal.layerMemory
        case "File":
          return Journal.layerOn(openSqlite(place.file), settings)
        case "Database":
          return Journal.layerOn(openPostgres(place), settings)
      }
    })
  )

  /** On a store that is given. */
  static readonly layerOn = (open: Open, settings: JournalSettings) =>
    Layer.effect(
      Journal,
      Effect.suspend(() => durable(open, settings))
    )
}

const MiB = 1024 * 1024
