import { expect } from "bun:test"
import { type ChannelModel, connect } from "amqplib"
import { Effect } from "effect"
import { live } from "../effect.ts"
import { type Break, frames, startBreakingBroker, startSilentListener } from "./fake-broker.ts"
import { declareQueues, publishAll, requests } from "./producer.ts"
import { vhost } from "./rabbit.ts"

/** Connects, checks the queue, consumes, waits for a delivery and acknowledges it; tells how far it came. */
const consume = (url: string, timeout = 3_000) =>
  Effect.promise(async () => {
    let reached = "nothing"
    let link: ChannelModel | undefined
    try {
      link = await connect(url, { timeout })
      reached = "connected"
      const lost = new Promise<never>((_, failed) => {
        link?.once("error", failed)
        link?.once("close", () => failed(new Error("closed")))
      })
      lost.catch(() => undefined)
      const work = async () => {
        const channel = await link?.createConfirmChannel()
        channel?.on("error", () => undefined)
        reached = "channel"
        await channel?.checkQueue("in")
        reached = "checked"
        await channel?.prefetch(1)
        let delivered = () => {}
        const delivery = new Promise<void>((done) => (delivered = done))
        await channel?.consume("in", (message) => {
          if (message === null) return
          channel.nack(message)
          delivered()
        })
        reached = "consuming"
        await delivery
        reached = "delivered"
      }
      await Promise.race([work(), lost])
      // A close() whose answer is cut off never settles.
      await Promise.race([link.close(), lost])
      return "done"
    } catch (error) {
      return `${reached}: ${error instanceof Error ? error.message : String(error)}`
    }
  })

live("a broker breaks off at every step of a client, in the way that was asked for", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    yield* declareQueues(url, { in: "in" })
    yield* publishAll(url, "in", requests(1))
    const broker = yield* startBreakingBroker(url)
    expect(yield* consume(broker.url)).toBe("done")
    const steps = broker.seen().map(({ name }) => name)
    expect(steps.slice(0, 20)).toEqual([
      "protocol.header",
      "connection.start",
      "connection.start-ok",
      "connection.tune",
      "connection.tune-ok",
      "connection.open",
      "connection.open-ok",
      "channel.open",
      "channel.open-ok",
      "confirm.select",
      "confirm.select-ok",
      "queue.declare",
      "queue.declare-ok",
      "basic.qos",
      "basic.qos-ok",
      "basic.consume",
      "basic.consume-ok",
      "basic.deliver",
      "content.header",
      "content.body"
    ])
    const reached = new Map<string, string>()
    for (const step of steps.slice(0, 20))
      for (const how of ["reset", "fin"] as const)
        for (const when of ["before", "after"] as const) {
          yield* broker.breakAt({ step, how, when })
          const came = yield* consume(broker.url)
          expect([step, how, when, broker.broken()]).toEqual([step, how, when, 1])
          reached.set(`${how} ${when} ${step}`, came.split(":")[0] ?? "")
          yield* broker.reset
        }
    expect(reached.get("reset before connection.open-ok")).toBe("nothing")
    expect(reached.get("reset after connection.open-ok")).toBe("connected")
    expect(reached.get("fin before queue.declare-ok")).toBe("channel")
    expect(reached.get("fin after queue.declare-ok")).toBe("checked")
    expect(reached.get("reset before basic.consume-ok")).toBe("checked")
    expect(reached.get("reset after content.header")).toBe("consuming")
    expect(["delivered", "done"]).toContain(reached.get("reset after content.body") ?? "")
    expect(yield* consume(broker.url)).toBe("done")
  })
)

live("a broker falls silent, for as many connections as asked", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    const broker = yield* startBreakingBroker(url)
    const silence: Break = { step: "connection.tune", when: "before", how: "silence", times: 2 }
    yield* broker.breakAt(silence)
    for (const _ of [1, 2]) expect(yield* consume(broker.url, 200)).toBe("nothing: connect ETIMEDOUT")
    expect(broker.broken()).toBe(2)
    expect(yield* consume(broker.url)).toStartWith("channel: ")
    expect(broker.connections()).toBe(3)
  })
)

live("a silent listener takes the header and says nothing", () =>
  Effect.gen(function* () {
    const silent = yield* startSilentListener
    expect(yield* consume(silent.url, 200)).toBe("nothing: connect ETIMEDOUT")
    expect([silent.connections(), silent.received()]).toEqual([1, 8])
  })
)

live("frames are found however the bytes are cut", () =>
  Effect.sync(() => {
    const method = Buffer.from([1, 0, 7, 0, 0, 0, 4, 0, 60, 0, 80, 0xce])
    const bytes = Buffer.concat([
      Buffer.from("AMQP\0\0\x09\x01"),
      method,
      Buffer.from([8, 0, 0, 0, 0, 0, 0, 0xce]),
      method
    ])
    for (let size = 1; size <= bytes.length; size++) {
      const names: Array<string> = []
      const take = frames((_frame, name, channel) => names.push(`${name} ${channel}`))
      for (let at = 0; at < bytes.length; at += size) take(bytes.subarray(at, at + size))
      expect(names).toEqual(["protocol.header 0", "basic.ack 7", "heartbeat 0", "basic.ack 7"])
    }
  })
)
