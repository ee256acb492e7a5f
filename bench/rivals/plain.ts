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

/** What the portal refuses for its rate is asked again a second later. */
const ask = async (address: string, body: Buffer): Promise<Response> => {
  const response = await fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body })
  if (response.status !== 503) return response
  await response.arrayBuffer()
  await new Promise((done) => setTimeout(done, 1_000))
  return ask(address, body)
}

await channel.consume(AMPQIN, (message) => {
  if (message === null) return failed("the broker cancelled the consumer")
  const { headers = {}, messageId, correlationId } = message.properties
  ask(`${B24REST}${headers["user"]}/${headers["token"]}/${headers["method"]}`, message.content)
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
