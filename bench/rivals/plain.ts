/**
 * The bridge that a user would write: amqplib, fetch, a prefetch, the answer published with a confirm and only then the
 * request acknowledged. What it does not do is what the product is for: limits, order, repetition, reconnecting.
 * Settings: AMPQURL, B24REST, AMPQIN, AMPQOUT as for the bridge, and PREFETCH.
 */
import { connect } from "amqplib"

const { AMPQURL = "amqp://localhost", B24REST = "", AMPQIN = "bitrix24in", AMPQOUT = "bitrix24out" } = process.env
const prefetch = Number(process.env["PREFETCH"] ?? 50)

const link = await connect(AMPQURL, { noDelay: true })
const channel = await link.createConfirmChannel()
await channel.prefetch(prefetch)

const failed = (error: unknown): never => {
  console.error(error)
  process.exit(1)
}

await channel.consume(AMPQIN, (message) => {
  if (message === null) return failed("the broker cancelled the consumer")
  const { headers = {}, messageId, correlationId } = message.properties
  fetch(`${B24REST}${headers["user"]}/${headers["token"]}/${headers["method"]}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: message.content
  })
    .then(async (response) => {
      const body = Buffer.from(await response.arrayBuffer())
      channel.sendToQueue(
        AMPQOUT,
        body,
        {
          persistent: true,
          contentType: "application/json",
          messageId,
          correlationId,
          headers: { method: headers["method"], status: response.status }
        },
        (error) => (error ? failed(error) : channel.ack(message))
      )
    })
    .catch(failed)
})
console.log(JSON.stringify({ event: "consuming", prefetch }))
