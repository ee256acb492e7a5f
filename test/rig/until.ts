import { Data, Duration, Effect } from "effect"

/** The rig itself failed: something could not be started, did not answer, or did not come about in time. */
export class RigFailed extends Data.TaggedError("RigFailed")<{ readonly what: string; readonly cause?: unknown }> {
  override get message() {
    return this.cause === undefined ? this.what : `${this.what}: ${String(this.cause)}`
  }
}

/** What `look` says while it has not come about yet. */
type NotYet = undefined | null | false

/**
 * Looks again and again until `look` gives something, and gives that. The only place of the tests that polls.
 * `what` is told when it did not come about: "the queue is empty". A look that hangs is cut at the deadline too.
 */
export const until = Effect.fnUntraced(function* <A, E, R>(
  what: string,
  look: Effect.Effect<A | NotYet, E, R>,
  options: { readonly within?: Duration.Input; readonly every?: Duration.Input } = {}
) {
  const within = options.within ?? "20 seconds"
  const looking = Effect.gen(function* () {
    while (true) {
      const seen = yield* look
      if (seen !== undefined && seen !== null && seen !== false) return seen as Exclude<A, NotYet>
      yield* Effect.sleep(options.every ?? "10 millis")
    }
  })
  return yield* Effect.timeoutOrElse(looking, {
    duration: within,
    orElse: () =>
      Effect.fail(new RigFailed({ what: `not within ${Duration.format(Duration.fromInputUnsafe(within))}: ${what}` }))
  })
})
