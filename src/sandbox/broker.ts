import { connect } from "@onify/fake-amqplib"
import { Effect, Layer } from "effect"
import { Dial, heard, LinkFailed, reasonOf } from "../queue/connection.ts"

/** A broker inside this process, good for a demo. What is claimed about delivery is tested against RabbitMQ. */
export const embeddedBroker = Layer.succeed(Dial, {
  dial: Effect.tryPromise({
    try: () => connect("amqp://embedded").then(heard),
    catch: (cause) => new LinkFailed({ reason: reasonOf(cause) })
  })
})
