/**
 * What broker and client library cost without any portal: consume, publish with a confirm, acknowledge.
 * Settings: AMPQURL, AMPQIN, AMPQOUT, PREFETCH and SIZE, the bytes of an answer.
 */
import { connect } from "amqplib"

const { AMPQURL = "amqp://localhost", AMPQIN = "bitrix24in", AMPQOUT = "bitrix24out" } = process.env
const prefetch = Number(process.env["PREFETCH"] ?? 50)
const answer = Buffer.alloc(Number(process.env["SIZE"] ?? 300), "r")

const link = await connect(AMPQURL, { noDelay: true })
const channel = await link.createConfirmChannel()
await channel.prefetch(prefetch)
await channel.consume(AMPQIN, (message) => {
  if (message === null) process.exit(1)
  const { messageId, correlationId, headers = {} } = message.properties
  const options = {
    persistent: true,
    contentType: "application/json",
    messageId,
    correlationId,
    headers: { method: headers["method"], status: 200 }
  }
  channel.sendToQueue(AMPQOUT, answer, options, (error) => (error ? process.exit(1) : channel.ack(message)))
})
console.log(JSON.stringify({ event: "consuming", prefetch }))
