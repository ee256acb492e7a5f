import { expect } from "bun:test"
import { EventEmitter } from "node:events"
import type { ConsumeMessage } from "amqplib"
import { Effect, Layer, Stream, SubscriptionRef } from "effect"
import { Connection, type Link } from "../../src/queue/connection.ts"
import { Intake } from "../../src/queue/intake.ts"
import { Topology } from "../../src/queue/topology.ts"
import { Settings } from "../../src/settings.ts"
import { live } from "../effect.ts"
import { until } from "../rig/until.ts"

interface Consumer {
  readonly channel: FakeChannel
  readonly limit: number
  readonly deliver: (message: ConsumeMessage) => void
}

/** A broker with one queue, as far as the intake needs it: what is open on a channel that is closed goes back to its place. */
class FakeBroker {
  ready: Array<string> = []
  readonly consumers = new Map<string, Consumer>()
  /** Runs when a cancel has been sent and has not yet come to the broker. */
  onCancel = () => {}
  private consumerTags = 0

  publish(id: string) {
    this.ready.push(id)
    this.pump()
  }

  add(consumer: Consumer) {
    const consumerTag = `c${++this.consumerTags}`
    this.consumers.set(consumerTag, consumer)
    // The answer to the consume comes before its deliveries.
    queueMicrotask(() => this.pump())
    return { consumerTag }
  }

  pump() {
    for (const [consumerTag, { channel, deliver, limit }] of this.consumers) {
      while (this.ready.length > 0 && channel.open.size < limit) {
        const messageId = this.ready.shift() ?? ""
        const deliveryTag = ++channel.tags
        channel.open.set(deliveryTag, messageId)
        deliver({
          fields: { deliveryTag, consumerTag, redelivered: false },
          properties: { messageId, headers: {} },
          content: Buffer.from(messageId)
        } as unknown as ConsumeMessage)
      }
    }
  }
}

class FakeChannel extends EventEmitter {
  readonly open = new Map<number, string>()
  tags = 0
  private limit = 0
  private readonly broker: FakeBroker
  constructor(broker: FakeBroker) {
    super()
    this.broker = broker
  }
  prefetch = async (limit: number) => void (this.limit = limit)
  checkQueue = async () => ({ messageCount: this.broker.ready.length, consumerCount: this.broker.consumers.size })
  consume = async (_: string, deliver: Consumer["deliver"]) =>
    this.broker.add({ channel: this, limit: this.limit, deliver })
  cancel = async (consumerTag: string) => {
    this.broker.onCancel()
    await Promise.resolve()
    this.broker.consumers.delete(consumerTag)
  }
  ack = ({ fields }: ConsumeMessage, multiple = false) => {
    for (const tag of this.open.keys())
      if (tag === fields.deliveryTag || (multiple && tag < fields.deliveryTag)) this.open.delete(tag)
    this.broker.pump()
  }
  close = async () => {
    for (const [tag, { channel }] of this.broker.consumers) if (channel === this) this.broker.consumers.delete(tag)
    this.broker.ready.unshift(...this.open.values())
    this.open.clear()
    this.emit("close")
    this.broker.pump()
  }
}

live("a request that comes while the first consumer of a link is cancelled comes again, in its place", () => {
  const broker = new FakeBroker()
  const link = {
    model: { createChannel: async () => new FakeChannel(broker) },
    lost: Effect.never,
    isLost: () => false
  } as unknown as Link
  const settings = { ampqIn: ["in"], concurrency: 16, prefetch: 100 } as unknown as Settings["Service"]
  const needed = Layer.mergeAll(
    Layer.succeed(Connection, { await: Effect.succeed(link) } as unknown as Connection["Service"]),
    Layer.succeed(Topology, { ensure: () => Effect.void }),
    Layer.succeed(Settings, settings)
  )
  return Effect.gen(function* () {
    const intake = yield* Intake
    const got: Array<string | undefined> = []
    yield* Effect.forkScoped(
      Stream.runForEach(intake.deliveries, ({ ack, incoming }) =>
        Effect.sync(() => {
          got.push(incoming.messageId)
          ack()
        })
      )
    )
    yield* until(
      "it consumes",
      Effect.sync(() => SubscriptionRef.getUnsafe(intake.consuming))
    )
    broker.onCancel = () => {
      broker.onCancel = () => {}
      broker.publish("first")
    }
    yield* intake.want("holding")
    yield* until(
      "it is cancelled",
      Effect.sync(() => broker.consumers.size === 0 && broker.ready.length === 1)
    )
    broker.publish("second")
    yield* intake.want("taking")
    yield* until(
      "both have come",
      Effect.sync(() => got.length === 2)
    )
    expect(got).toEqual(["first", "second"])
  }).pipe(Effect.scoped, Effect.provide(Layer.provide(Intake.layer, needed)))
})
