import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { checkAnswers, collector, declareQueues, onLink, publishAll } from "../rig/producer.ts"
import { vhost, victim } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import { deals, queueIn, queueOut, scale } from "./load.ts"

const limit = 60_000 * Math.max(1, scale)

/** The message_ids in a queue, the head first. They stay there. */
const idsIn = (url: string, queue: string) =>
  onLink(url, async (link) => {
    const channel = await link.createChannel()
    const ids: Array<string> = []
    for (let one = await channel.get(queue); one !== false; one = await channel.get(queue)) {
      ids.push(String(one.properties.messageId))
    }
    return ids
  })

live(
  "a stop finishes the calls in flight and gives the rest back in its order",
  () =>
    Effect.gen(function* () {
      const own = yield* vhost
      const portal = yield* openPortal({ latency: 700 })
      const sent = deals(30 + 15 * scale)
      yield* declareQueues(own.url, { in: queueIn })
      yield* publishAll(own.url, queueIn, sent)
      let finished = 0
      for (let round = 0; round < 2 * scale; round++) {
        const bridge = yield* startBridge({
          env: { AMPQURL: own.url, B24REST: portal.url, B24RMQ_CONCURRENCY: "8", B24RMQ_PACK: "off" }
        })
        yield* portal.until(({ inFlight }) => inFlight === 8)
        yield* bridge.kill("SIGTERM")
        expect(yield* bridge.exited).toEqual({ code: 0, signal: null })
        finished += 8
        expect(portal.count()).toBe(finished)
        expect(bridge.lines().filter(({ event }) => event === "drain-cut")).toEqual([])
        // Which have gone is not told by their order: a write is looked up in the journal first.
        const left = yield* idsIn(own.url, queueIn)
        expect(left.length).toBe(sent.length - finished)
        expect(left).toEqual(sent.map(({ id }) => id ?? "").filter((id) => left.includes(id)))
      }
      portal.latency(1)
      yield* startBridge({ env: { AMPQURL: own.url, B24REST: portal.url } })
      const answers = yield* collector(own.url, queueOut)
      const checked = checkAnswers(sent, yield* answers.has(sent.length))
      expect(checked).toMatchObject({ lost: [], duplicated: [], byOutcome: { done: sent.length } })
      expect(portal.doubles()).toEqual([])
    }),
  limit
)

live(
  "a stop waits no longer than B24RMQ_DRAIN, and a second signal ends at once",
  () =>
    Effect.gen(function* () {
      const own = yield* vhost
      const portal = yield* openPortal({ latency: 30_000 })
      yield* declareQueues(own.url, { in: queueIn })
      yield* publishAll(own.url, queueIn, deals(1))
      const stop = Effect.fnUntraced(function* (drain: string, signals: number) {
        const asked = portal.requests
        const bridge = yield* startBridge({ env: { AMPQURL: own.url, B24REST: portal.url, B24RMQ_DRAIN: drain } })
        yield* portal.until(({ requests }) => requests > asked)
        const started = performance.now()
        yield* bridge.kill("SIGTERM")
        yield* bridge.waitForLine("stopping")
        if (signals === 2) yield* bridge.kill("SIGTERM")
        const ended = yield* bridge.exited
        return {
          ended,
          ms: performance.now() - started,
          cut: bridge.lines().some(({ event }) => event === "drain-cut")
        }
      })
      const cut = yield* stop("1", 1)
      expect(cut).toMatchObject({ ended: { code: 0, signal: null }, cut: true })
      expect(cut.ms).toBeLessThan(4_000)
      const forced = yield* stop("60", 2)
      expect(forced.ended).toEqual({ code: 1, signal: null })
      expect(forced.ms).toBeLessThan(2_000)
      const { ready, unacked } = yield* until(
        "the request is back in the queue",
        Effect.map(own.queueDepth(queueIn), (depth) => depth.ready === 1 && depth)
      )
      expect({ ready, unacked }).toEqual({ ready: 1, unacked: 0 })
    }),
  limit
)

live(
  "a stop while the broker takes nothing ends within its bounds",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      const own = yield* node.vhost()
      const portal = yield* openPortal({ latency: 50 })
      const env = { AMPQURL: own.url, B24REST: portal.url, B24RMQ_DRAIN: "2", B24RMQ_PACK: "off" }
      const bridge = yield* startBridge({ env })
      const sent = deals(400)
      yield* publishAll(own.url, queueIn, sent)
      yield* portal.until(({ requests }) => requests > 50)
      yield* node.memoryAlarm(true)
      yield* bridge.waitForLine("broker-blocked")
      const started = performance.now()
      yield* bridge.kill("SIGTERM")
      expect(yield* bridge.exited).toEqual({ code: 0, signal: null })
      const ms = performance.now() - started
      expect(ms).toBeLessThan(12_000)
      yield* node.memoryAlarm(false)
      yield* startBridge({ env })
      const answers = yield* collector(own.url, queueOut)
      const checked = checkAnswers(sent, yield* answers.has(sent.length))
      expect(checked).toMatchObject({ lost: [], unasked: [] })
      console.log(JSON.stringify({ fault: "stop while blocked", ms: Math.round(ms), doubles: portal.doubles().length }))
    }),
  limit
)
