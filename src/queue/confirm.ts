import { type ConfirmChannel, IllegalOperationError, type Options } from "amqplib"
import { Data, Effect, Result } from "effect"
import { bufferOf } from "../message/bytes.ts"
import { reasonOf, stepLimit } from "./connection.ts"

/**
 * The broker did not take charge of a message. `refused`: its queue takes no more. `returned`: there is no such queue.
 * `impossible`: no message of the client library can hold it. `lost`: the channel is gone or silent, so the broker may
 * have it all the same.
 */
export class NotTaken extends Data.TaggedError("NotTaken")<{
  readonly kind: "refused" | "returned" | "impossible" | "lost"
  readonly reason: string
}> {
  override get message() {
    return this.reason
  }
}

/** The library's word for a basic.nack. */
const nacked = "message nacked"

/**
 * Publishes on a confirm channel. `done` is told what is wrong, or undefined once the broker has taken charge. It throws
 * what cannot be sent.
 */
export const publisher = (channel: ConfirmChannel) => {
  let unconfirmed = 0
  let returned = false
  channel.on("return", () => {
    returned = true
  })
  return (queue: string, body: Uint8Array, options: Options.Publish, done: (fault: NotTaken | undefined) => void) => {
    const bytes = bufferOf(body)
    channel.sendToQueue(queue, bytes, options, (error: unknown) => {
      const fault = faultOf(error, returned)
      if (--unconfirmed === 0) returned = false
      done(fault)
    })
    unconfirmed++
  }
}

// A return precedes its own confirm, and does not tell which one that is.
const faultOf = (error: unknown, returned: boolean) => {
  if (error === null) {
    return returned ? new NotTaken({ kind: "returned", reason: "it came back, its queue is gone" }) : undefined
  }
  const reason = reasonOf(error)
  return reason === nacked
    ? new NotTaken({ kind: "refused", reason: "its queue takes no more messages (is it full?)" })
    : new NotTaken({ kind: "lost", reason })
}

/** One publishing, begun by `send`: succeeds once the broker has taken charge of the message. */
export const confirmed = (send: (done: (fault: NotTaken | undefined) => void) => void): Effect.Effect<void, NotTaken> =>
  Effect.callback<void, NotTaken>((resume) => {
    const sent = Result.try(() => send((fault) => resume(fault === undefined ? Effect.void : Effect.fail(fault))))
    if (Result.isSuccess(sent)) return
    const { failure } = sent
    const kind = failure instanceof IllegalOperationError ? "lost" : "impossible"
    resume(Effect.fail(new NotTaken({ kind, reason: reasonOf(failure) })))
  }).pipe(
    Effect.timeoutOrElse({
      duration: stepLimit,
      orElse: () => Effect.fail(new NotTaken({ kind: "lost", reason: `no confirm within ${stepLimit}` }))
    })
  )
