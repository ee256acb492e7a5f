import type { Incoming } from "./incoming.ts"
import type { Rejected } from "./request.ts"

/**
 * What became of a request. `done`: the portal did it. `refused`: the portal said no and did nothing. `unknown`: nobody
 * knows whether it was done. `rejected`: the bridge could not send it.
 */
export type OutcomeWord = "done" | "refused" | "unknown" | "rejected"

/** Nothing was done, and the same request may be sent anew once its cause is removed. */
export const isRefusal = (outcome: OutcomeWord) => outcome === "refused" || outcome === "rejected"

/** An answer on its way to the answer queue. */
export interface Answer {
  readonly outcome: OutcomeWord
  /** JSON: the portal's own bytes, or an error of the bridge in the same form. */
  readonly body: Uint8Array
  /** HTTP status of the portal, where there was one. */
  readonly status: number | undefined
  /** How often the request was sent. */
  readonly attempts: number
  /** Carried to the portal in a batch with others. */
  readonly packed?: true
  /** Answered from memory: the same request had been answered before. */
  readonly replayed?: true
  /**
   * It was unknown for a time whether the request was executed. `found`: what it created was found, and the answer is made
   * of that; `gone`: what it deletes is not there; `repeated`: it was sent once more, and this is the portal's answer.
   */
  readonly resolved?: "found" | "gone" | "repeated"
}

/**
 * An id travels as an AMQP short string, 255 bytes at most. One that is not UTF-8 grew when it was read: nothing could
 * publish it again, so the answer goes without it.
 */
const fitting = (id: string | undefined) => (id === undefined || Buffer.byteLength(id) <= 255 ? id : undefined)

/** Properties and headers of the answer to a message; message_id is the producer's, unchanged. */
export const envelope = (answer: Answer, incoming: Incoming, method: string | undefined) => ({
  messageId: fitting(incoming.messageId),
  correlationId: fitting(incoming.correlationId ?? incoming.messageId),
  headers: {
    "x-b24rmq-outcome": answer.outcome,
    "x-b24rmq-attempts": answer.attempts,
    ...(answer.status === undefined ? {} : { "x-b24rmq-status": answer.status }),
    ...(method === undefined ? {} : { "x-b24rmq-method": method }),
    ...(answer.packed ? { "x-b24rmq-packed": true } : {}),
    ...(answer.replayed ? { "x-b24rmq-replayed": true } : {}),
    ...(answer.resolved === undefined ? {} : { "x-b24rmq-resolved": answer.resolved })
  }
})

/** An error of the bridge in the form of the portal's own errors (`error`, `error_description`). */
export const ownError = (code: string, description: string) =>
  Buffer.from(JSON.stringify({ error: code, error_description: description }))

export const rejection = (rejected: Rejected): Answer => ({
  outcome: "rejected",
  body: ownError(rejected.code, rejected.description),
  status: undefined,
  attempts: 0
})

/** Stands for an answer that no message of the broker can hold, or that is longer than allowed. */
export const tooLarge = (status: number) =>
  ownError(
    "B24RMQ_ANSWER_TOO_LARGE",
    `The portal answered with HTTP ${status}, but its answer is too large to be passed on. The request is not sent again for it. Ask for less at once (select, filter, start), or raise B24RMQ_MAX_ANSWER if the broker takes larger messages.`
  )
