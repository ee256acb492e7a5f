import { Clock, Context, Deferred, Effect, Layer, Stream, SubscriptionRef } from "effect"
import { Journal } from "../journal/journal.ts"
import type { JournalFailed } from "../journal/known.ts"
import { until } from "../queue/kept.ts"

/** The operator's pause: nothing is taken and nothing departs. It stands in the journal, so that it outlasts the process. */
export class Pause extends Context.Service<
  Pause,
  {
    /** Since when, in milliseconds since 1970, or undefined. */
    readonly since: SubscriptionRef.SubscriptionRef<number | undefined>
    /** Takes effect at once, also where it fails: then it is not in the journal yet, and will be as soon as that can be written. */
    readonly set: (paused: boolean) => Effect.Effect<void, JournalFailed>
    /** Waits until it is known whether the bridge was paused before, or cannot be known for a while. */
    readonly known: Effect.Effect<void>
  }
>()("b24rmq/Pause") {
  static readonly layer = Layer.effect(
    Pause,
    Effect.gen(function* () {
      const journal = yield* Journal
      const since = yield* SubscriptionRef.make<number | undefined>(undefined)
      const read = yield* Deferred.make<void>()
      /** Said while the journal could not be written. */
      let unwritten = false

      const write = Effect.gen(function* () {
        const paused = SubscriptionRef.getUnsafe(since)
        unwritten = true
        yield* journal.remember(key, paused === undefined ? "" : String(paused))
        unwritten = false
      })

      const recall = Effect.gen(function* () {
        if (unwritten) return yield* Effect.ignore(write)
        const kept = yield* journal.recallKey(key)
        yield* SubscriptionRef.set(since, kept ? Number(kept) : undefined)
      })

      // Another bridge may have held the journal in the meantime, and been paused or resumed.
      yield* recall.pipe(
        Effect.andThen(Deferred.succeed(read, undefined)),
        Effect.andThen(
          Stream.runForEach(SubscriptionRef.changes(journal.state), ({ _tag }) =>
            _tag === "ready" ? recall : Effect.void
          )
        ),
        Effect.forkScoped
      )

      return Pause.of({
        since,
        set: (paused) =>
          Effect.gen(function* () {
            const before = SubscriptionRef.getUnsafe(since)
            yield* SubscriptionRef.set(since, paused ? (before ?? (yield* Clock.currentTimeMillis)) : undefined)
            yield* write
          }),
        known: Effect.raceFirst(
          Deferred.await(read),
          Effect.andThen(
            until(journal.state, ({ _tag }) => _tag === "failed"),
            Effect.sleep(patience)
          )
        )
      })
    })
  )
}

const key = "paused-since"

/** A journal that fails may be read all the same, a moment later. */
const patience = "1 second"
