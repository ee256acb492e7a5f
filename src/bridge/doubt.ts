import { type Answer, ownError } from "../message/answer.ts"
import type { Request } from "../message/request.ts"
import type { Outcome } from "../portal/outcome.ts"

/**
 * What to answer when nobody knows whether a request was executed. A write is never sent again on a guess; the producer
 * is told what to look at.
 */
export const inDoubt = (
  request: Request,
  outcome: Extract<Outcome, { _tag: "Unknown" }>,
  attempts: number,
  isRead: boolean
): Answer => ({
  outcome: "unknown",
  body: ownError(
    "B24RMQ_OUTCOME_UNKNOWN",
    isRead
      ? `${request.method} was asked ${attempts} times and no answer came (${outcome.reason}). Reading changes nothing: send the request again later, or ask for less at once.`
      : `${request.method} was sent, and no answer came (${outcome.reason}). It may or may not have been executed: look in the portal before you send it again with a new message_id.`
  ),
  status: outcome.status,
  attempts
})
