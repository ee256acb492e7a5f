import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { checkAnswers, collector, onLink, publishAll } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import { deals, queueIn, queueOut } from "./load.ts"

/** The message_ids in a queue, the head first. */
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
      const { url, queueDepth } = yield* vhost
      const portal = yield* openPortal({ latency: 1_000 })
      const bridge = yield* startBridge({ env: { AMPQURL: url, B24REST: portal.url, B24RMQ_CONCURRENCY: "8" } })
      const sent = deals(60)
      yield* publishAll(url, queueIn, sent)
      yield* portal.until(({ inFlight }) => inFlight === 8)
      yield* bridge.kill("SIGTERM")
      const ended = yield* bridge.exited
      console.log(bridge.output())
      console.log(yield* queueDepth(queueIn), yield* queueDepth(queueOut), portal.count())
      expect(ended).toEqual({ code: 0, signal: null })
      expect(portal.count()).toBe(8)
      const left = yield* idsIn(url, queueIn)
      expect(left).toEqual(sent.slice(8).map(({ id }) => id ?? ""))
      portal.latency(1)
      yield* startBridge({ env: { AMPQURL: url, B24REST: portal.url } })
      const answers = yield* collector(url, queueOut)
      const checked = checkAnswers(sent, yield* answers.has(60))
      expect(checked).toMatchObject({ lost: [], duplicated: [], byOutcome: { done: 60 } })
      expect(portal.doubles()).toEqual([])
    }),
  30_000
)
void until
