import { Effect, Option, SubscriptionRef } from "effect"
import { Settings } from "../settings.ts"
import { Connection } from "./connection.ts"
import { lookAt } from "./topology.ts"

/** A broker that has not said it by then is not waited for. */
const patience = "1 second"

/**
 * How many messages lie ready in each of the queues, those that were taken and not yet acknowledged not counted.
 * Undefined where that cannot be known now: there is no link, no such queue, or no answer.
 */
export const backlog = Effect.gen(function* () {
  const { ampqIn, ampqOut } = yield* Settings
  const { link, blocked } = yield* Connection
  const open = SubscriptionRef.getUnsafe(link)
  const isMute = SubscriptionRef.getUnsafe(blocked) !== undefined
  return yield* Effect.forEach(
    [...ampqIn, ampqOut],
    (queue) =>
      open === undefined || isMute
        ? Effect.succeed({ queue, messages: undefined })
        : lookAt(open, queue).pipe(
            Effect.timeout(patience),
            Effect.option,
            Effect.map((seen) => ({ queue, messages: Option.getOrUndefined(seen)?.messageCount }))
          ),
    { concurrency: "unbounded" }
  )
})
