import { Effect } from "effect"
import { collector } from "../../test/rig/producer.ts"
import { median, quantile } from "../limits/witness.ts"
import type { Contestant } from "./contestants.ts"
import { asked, idlePortal, queueIn, queueOut, stand } from "./stand.ts"

/** Milliseconds from publishing a request until its answer is read. */
export interface Latency {
  readonly p50: number
  readonly p99: number
}

const pause = (ms: number) => new Promise<void>((done) => setTimeout(done, ms))

const latencyOf = (times: ReadonlyArray<number>): Latency => ({ p50: median(times), p99: quantile(times, 0.99) })

/** The first of the direct calls are not counted. */
const unsettled = 50

/** Between two requests of an idle program, in milliseconds. */
const between = 5

/** The same requests by `fetch`, without any queue: what a contestant is held against. */
export const directly = (count: number) =>
  Effect.gen(function* () {
    const rest = yield* idlePortal()
    const times = yield* Effect.promise(async () => {
      const times: Array<number> = []
      for (let index = 0; index < unsettled + count; index++) {
        const began = performance.now()
        const headers = { "Content-Type": "application/json" }
        const body = `{"filter":{"ID":${index}}}`
        const response = await fetch(`${rest}1/secret0token/crm.deal.list`, { method: "POST", headers, body })
        await response.arrayBuffer()
        times.push(performance.now() - began)
        await pause(between)
      }
      return times
    })
    return latencyOf(times.slice(unsettled))
  }).pipe(Effect.scoped)

/** One request after the other, with nothing else to do. */
export const idle = (contestant: Contestant, count: number, warm: number) =>
  Effect.gen(function* () {
    const { channel, start, warmUp } = yield* stand()
    yield* start(contestant, yield* idlePortal())
    yield* warmUp(contestant, warm)
    const times = yield* Effect.promise(async () => {
      const times: Array<number> = []
      let arrived = () => {}
      await channel.consume(queueOut, () => arrived(), { noAck: true })
      for (const { content, options } of asked(contestant, count)) {
        const came = new Promise<void>((done) => (arrived = done))
        const began = performance.now()
        channel.sendToQueue(queueIn, content, options)
        await came
        times.push(performance.now() - began)
        await pause(between)
      }
      return times
    })
    return latencyOf(times)
  }).pipe(Effect.scoped)

/** Requests come at a rate that it can well keep up with. */
export const underLoad = (contestant: Contestant, rate: number, seconds: number, warm: number) =>
  Effect.gen(function* () {
    const { broker, start, publish, warmUp } = yield* stand()
    yield* start(contestant, yield* idlePortal())
    yield* warmUp(contestant, warm)
    const answers = yield* collector(broker.url, queueOut, { prefetch: 1_000 })
    const messages = asked(contestant, Math.ceil(rate * seconds))
    const sent = new Map<string, number>()
    yield* publish(messages, { rate, sent: ({ id = "" }) => sent.set(id, performance.now()) })
    const got = yield* answers.has(messages.length, "2 minutes")
    return latencyOf(messages.map(({ id = "" }) => (got.get(id)?.[0]?.at ?? Number.NaN) - (sent.get(id) ?? Number.NaN)))
  }).pipe(Effect.scoped)
