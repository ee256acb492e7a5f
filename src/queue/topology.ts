import { Clock, Context, Data, Duration, Effect, Layer } from "effect"
import { tell } from "../events.ts"
import { redeclareAfter } from "../schedules.ts"
import { Settings } from "../settings.ts"
import { ChannelLost, openChannel, step } from "./channel.ts"
import type { Link } from "./connection.ts"

/** A queue is not there, and it is not (or not yet) to be declared. */
export class QueueMissing extends Data.TaggedError("QueueMissing")<{
  readonly queue: string
  readonly remedy: string
}> {
  override get message() {
    return `the queue ${this.queue} does not exist: ${this.remedy}`
  }
}

/** How many messages and consumers a queue had when it was looked at. */
export interface QueueState {
  readonly queue: string
  readonly messageCount: number
  readonly consumerCount: number
}

/** Asks for a queue without changing anything. Fails with code 404 if there is none. */
export const lookAt = (link: Link, queue: string): Effect.Effect<QueueState, ChannelLost> =>
  lookAtWith(link, queue, Effect.succeed)

/** The same; `seen` runs at the moment of the broker's answer, while the channel is still to be closed. */
export const lookAtWith = <A>(link: Link, queue: string, seen: (state: QueueState) => Effect.Effect<A>) =>
  Effect.scoped(
    // On a channel of its own: the broker closes the channel on which a missing queue was asked for.
    Effect.flatMap(
      openChannel(link, ({ model }) => model.createChannel()),
      ({ channel }) =>
        Effect.flatMap(
          step("queue.declare (passive)", () => channel.checkQueue(queue)),
          seen
        )
    )
  )

/** Sees to it that the queues exist, and never fights over the arguments of one that does. */
export class Topology extends Context.Service<
  Topology,
  {
    /**
     * Succeeds once the queue is known to exist. A queue that was never seen is declared at once; one that was lost
     * while running is left to an operator for a while, so that whoever recreates it otherwise wins.
     */
    readonly ensure: (link: Link, queue: string) => Effect.Effect<void, QueueMissing | ChannelLost>
  }
>()("b24rmq/Topology") {
  static readonly layer = Layer.effect(
    Topology,
    Effect.gen(function* () {
      const settings = yield* Settings
      const seen = new Set<string>()
      const missingSince = new Map<string, number>()

      const declare = (link: Link, queue: string) =>
        Effect.scoped(
          Effect.flatMap(
            openChannel(link, ({ model }) => model.createChannel()),
            ({ channel }) => step("queue.declare", () => channel.assertQueue(queue, { durable: true }))
          )
        ).pipe(Effect.andThen(tell("queue-declared", { queue })))

      const absent = Effect.fnUntraced(function* (link: Link, queue: string) {
        if (!settings.declare) {
          return yield* new QueueMissing({ queue, remedy: "declare it, or set B24RMQ_DECLARE=yes" })
        }
        if (!seen.has(queue)) return yield* declare(link, queue)
        const now = yield* Clock.currentTimeMillis
        const since = missingSince.get(queue) ?? now
        missingSince.set(queue, since)
        const left = Duration.toMillis(redeclareAfter) - (now - since)
        if (left <= 0) return yield* declare(link, queue)
        return yield* new QueueMissing({
          queue,
          remedy: `it was deleted; create it as you want it, or it is declared again within ${Duration.toSeconds(redeclareAfter)} s`
        })
      })

      return Topology.of({
        ensure: (link, queue) =>
          lookAt(link, queue).pipe(
            Effect.catchIf(
              (error) => error._tag === "ChannelLost" && error.code === 404,
              () => absent(link, queue)
            ),
            Effect.andThen(
              Effect.sync(() => {
                seen.add(queue)
                missingSince.delete(queue)
              })
            )
          )
      })
    })
  )
}
