import { Duration } from "effect"
import { type Answer, ownError } from "../message/answer.ts"
import type { Request } from "../message/request.ts"
import type { Delivery } from "../queue/held.ts"
import { isParked } from "../queue/parked.ts"

/** Earlier than this nothing was made: it is a counter, or a clock that was never set. */
const earliest = Date.UTC(2000, 0, 1)

/** A timestamp above this is one in milliseconds: in seconds it would be of the year 5138. */
const mostSeconds = 1e11

/**
 * When a message was made, in milliseconds since 1970, by its property `timestamp`: seconds, or milliseconds, which many
 * write by mistake. Undefined where it cannot be true: missing, before 2000, or later than now.
 */
export const madeAt = (timestamp: number | undefined, now: number): number | undefined => {
  if (timestamp === undefined) return undefined
  const at = timestamp > mostSeconds ? timestamp : timestamp * 1_000
  return at >= earliest && at <= now ? at : undefined
}

/** Requests that are remembered because they came and were not answered. */
const remembered = 100_000

/** How old requests may become, and which are too old. Times are milliseconds since 1970. */
export const openAges = (maxAge: Duration.Duration | undefined) => {
  const most = maxAge === undefined ? Infinity : Duration.toMillis(maxAge)
  /** When a request came first that does not tell when it was made, until it is answered. By its identity. */
  const firstSeen = new Map<string, number>()

  const seenAt = ({ id, messageId }: Request, delivery: Delivery, now: number): number => {
    if (isParked(delivery)) return delivery.deadline === undefined ? delivery.since : delivery.deadline - most
    // Without a name it may be another one of the same content.
    if (messageId === undefined) return now
    const before = firstSeen.get(id)
    if (before !== undefined) return before
    firstSeen.set(id, now)
    if (firstSeen.size > remembered) firstSeen.delete(firstSeen.keys().next().value ?? id)
    return now
  }

  return {
    /** Until when a request that has come now may leave; undefined if for ever. */
    deadlineOf: (request: Request, delivery: Delivery, now: number): number | undefined =>
      most === Infinity
        ? undefined
        : (madeAt(delivery.incoming.timestamp, now) ?? seenAt(request, delivery, now)) + most,
    /** It has its answer. */
    forget: ({ id }: Request) => void firstSeen.delete(id),
    /** The answer to one whose deadline has passed without its being executed. */
    tooOld: ({ method }: Request, deadline: number, now: number, attempts: number): Answer => ({
      outcome: "rejected",
      body: ownError(
        "B24RMQ_EXPIRED",
        `${method} is ${Math.floor((now - deadline + most) / 1_000)} s old, and B24RMQ_MAX_AGE allows ${most / 1_000} s. It has changed nothing in the portal and is not sent any more. If it is still wanted, send it again, with a new timestamp if it has one; the same message_id will do.`
      ),
      status: undefined,
      attempts
    })
  }
}

export type Ages = ReturnType<typeof openAges>
