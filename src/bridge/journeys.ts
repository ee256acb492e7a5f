import { Context, Layer } from "effect"
import type { Request } from "../message/request.ts"
import type { Delivery } from "../queue/held.ts"

/**
 * Where a delivery is on its way. `journal`: asking it, or writing to it; `twin`: the same request is under way, and its
 * answer is waited for; `waiting`: in the waiting room, or called; `doubt`: what became of it is being found out;
 * `parking`: it is being put away; `answer`: its answer is being published.
 */
export type Stage = "journal" | "twin" | "waiting" | "doubt" | "parking" | "answer"

/** One delivery that the bridge works on. */
export interface Journey {
  readonly delivery: Delivery
  /** Tells it from all others. */
  readonly number: number
  /** Since when, in milliseconds of the monotonic clock. */
  readonly since: number
  /** Undefined for a message that is no request. */
  request: Request | undefined
  stage: Stage
}

/** What the bridge works on now, for whoever watches: each delivery with where it is. */
export class Journeys extends Context.Service<
  Journeys,
  {
    readonly begin: (delivery: Delivery, since: number) => Journey
    readonly end: (journey: Journey) => void
    /** By the message, which stays the same where a delivery is wrapped. */
    readonly isUnderWay: (delivery: Delivery) => boolean
    readonly all: () => Iterable<Journey>
    /** How many have begun, and how many of them have ended. */
    readonly begun: () => number
    readonly ended: () => number
  }
>()("b24rmq/Journeys") {
  static readonly layer = Layer.sync(Journeys, () => {
    const underWay = new Map<Delivery["incoming"], Journey>()
    let begun = 0
    let ended = 0
    return Journeys.of({
      begin: (delivery, since) => {
        const journey: Journey = { delivery, number: begun++, since, request: undefined, stage: "journal" }
        underWay.set(delivery.incoming, journey)
        return journey
      },
      end: ({ delivery }) => {
        underWay.delete(delivery.incoming)
        ended++
      },
      isUnderWay: ({ incoming }) => underWay.has(incoming),
      all: () => underWay.values(),
      begun: () => begun,
      ended: () => ended
    })
  })
}
