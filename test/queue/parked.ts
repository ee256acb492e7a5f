import { NodeServices } from "@effect/platform-node"
import type { Options } from "amqplib"
import { Context, Effect, Layer, Logger, References } from "effect"
import { Connection, Dial } from "../../src/queue/connection.ts"
import { until as become } from "../../src/queue/kept.ts"
import { Parked } from "../../src/queue/parked.ts"
import { rawOf } from "../../src/queue/raw.ts"
import { Topology } from "../../src/queue/topology.ts"
import type { Delivery } from "../../src/queue/held.ts"
import { Settings } from "../../src/settings.ts"
import { onLink } from "../rig/producer.ts"

/** What the tests of parking share. */

export const queueIn = "in"
export const queueParked = "in.parked"

/** Lines of the log, as the events that were told. */
export interface Told {
  readonly event: string
  readonly reason: string
}

/** Parking on a broker, for as long as the scope lasts, as the bridge has it. */
export const startParked = (url: string, env: Readonly<Record<string, string>> = {}) =>
  Effect.gen(function* () {
    const told: Array<Told> = []
    const keep = Logger.make(({ fiber }) => {
      const { event, reason } = fiber.getRef(References.CurrentLogAnnotations)
      told.push({ event: String(event), reason: String(reason) })
    })
    const settings = Settings.layerOf({ AMPQURL: url, B24REST: "https://example.com/rest/", AMPQIN: queueIn, ...env })
    const layer = Parked.layer.pipe(
      Layer.provide(Topology.layer),
      Layer.provideMerge(Connection.layer),
      Layer.provide(Dial.layer),
      Layer.provide(settings),
      Layer.provide(NodeServices.layer),
      Layer.provide(Logger.layer([keep]))
    )
    const services = yield* Layer.build(layer)
    const parked = Context.get(services, Parked)
    yield* parked.want(true)
    return { ...parked, connection: Context.get(services, Connection), told }
  })

export type Parking = Effect.Success<ReturnType<typeof startParked>>

/** Waits until it can be walked. */
export const isOpen = (parking: Parking) => become(parking.state, (state) => state === "open")

/** Waits until it can be used: all that is parked already was seen. */
export const isReady = (parking: Parking) =>
  Effect.andThen(
    isOpen(parking),
    parking.walk(() => "keep")
  )

/** A delivery as the intake would give it, of a message that never was in a queue. */
export const delivery = (body: string, options: Options.Publish = {}): Delivery & { acked: boolean } => {
  const properties = {
    contentType: undefined,
    contentEncoding: undefined,
    headers: undefined,
    deliveryMode: undefined,
    priority: undefined,
    correlationId: undefined,
    replyTo: undefined,
    expiration: undefined,
    messageId: undefined,
    timestamp: undefined,
    type: undefined,
    userId: undefined,
    appId: undefined,
    clusterId: undefined,
    ...options
  }
  const fields = { deliveryTag: 1, redelivered: false, exchange: "", routingKey: queueIn }
  const made = {
    incoming: rawOf({ content: Buffer.from(body), fields, properties }),
    queue: queueIn,
    redelivered: false,
    isLost: () => false,
    crowds: () => true,
    acked: false,
    ack: () => {
      made.acked = true
    }
  }
  return made
}

/** Publishes messages as somebody else would, confirmed. */
export const putInto = (
  url: string,
  queue: string,
  messages: ReadonlyArray<{ readonly content: Buffer; readonly options: Options.Publish }>
) =>
  onLink(url, async (link) => {
    const channel = await link.createConfirmChannel()
    for (const { content, options } of messages) channel.sendToQueue(queue, content, { persistent: true, ...options })
    await channel.waitForConfirms()
    await channel.close()
  })

/** All messages of a queue, taken out of it. */
export const takeAll = (url: string, queue: string) =>
  onLink(url, async (link) => {
    const channel = await link.createChannel()
    const messages = []
    for (let message = await channel.get(queue); message !== false; message = await channel.get(queue)) {
      messages.push(message)
      channel.ack(message)
    }
    await channel.close()
    return messages
  })
