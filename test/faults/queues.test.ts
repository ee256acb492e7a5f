import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { type Bridge, startBridge } from "../rig/bridge.ts"
import { checkAnswers, collector, declareQueues, publishAll, requests } from "../rig/producer.ts"
import { type Node, vhost, victim } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import { deals, promised, queueIn, queueOut, scale, settled, stopped } from "./load.ts"

const limit = 60_000 * Math.max(1, scale)

const start = (url: string, portal: Portal, env: Readonly<Record<string, string>> = {}) =>
  startBridge({ env: { AMPQURL: url, B24REST: portal.url, ...env } })

/** Waits until no call has come for a second: the only way to see that none is made. */
const calm = (portal: Portal) =>
  Effect.gen(function* () {
    let seen = portal.requests
    let since = performance.now()
    return yield* until(
      "the portal is left alone for a second",
      Effect.sync(() => {
        if (portal.requests !== seen) since = performance.now()
        seen = portal.requests
        return performance.now() - since > 1_000 && seen
      })
    )
  })

/** Waits for the next `consuming`, and holds it to the promise. */
const consumesAgain = (bridge: Bridge, after: number) =>
  Effect.gen(function* () {
    const ready = performance.now()
    yield* bridge.consuming({ after })
    const ms = performance.now() - ready
    expect(ms).toBeLessThan(promised)
    return Math.round(ms)
  })

for (const type of ["classic", "quorum"] as const) {
  live(
    `the request queue is deleted and recreated as a ${type} queue`,
    () =>
      Effect.gen(function* () {
        const own = yield* vhost
        const portal = yield* openPortal({ latency: 300 })
        const bridge = yield* start(own.url, portal, { B24RMQ_PREFETCH: "50" })
        const answers = yield* collector(own.url, queueOut)
        const times: Array<number> = []
        let sent = 0
        let dropped = 0
        for (let round = 0; round < scale; round++) {
          const before = deals(200)
          yield* publishAll(own.url, queueIn, before)
          yield* portal.until(({ inFlight }) => inFlight > 0)
          const mark = bridge.mark()
          yield* own.deleteQueue(queueIn)
          yield* bridge.waitForLine("consumer-cancelled", { after: mark })
          yield* declareQueues(own.url, { in: queueIn, type })
          times.push(yield* consumesAgain(bridge, mark))
          const after = deals(50)
          yield* publishAll(own.url, queueIn, after)
          yield* until(
            "what was published after it is answered",
            Effect.sync(() => after.every(({ id }) => answers.answers.has(id ?? "")))
          )
          sent += before.length + after.length
          dropped += before.filter(({ id }) => !answers.answers.has(id ?? "")).length
        }
        yield* settled(own)
        // What the bridge had taken is answered though its queue is gone: whatever was executed is told of. The broker
        // knows nothing of these deliveries any more, so that a settled queue does not mean that they are through.
        yield* until(
          "every executed request is answered",
          Effect.sync(() => portal.inFlight === 0 && answers.answers.size === portal.count())
        )
        const checked = checkAnswers([], answers.answers)
        expect(checked.byOutcome).toEqual({ done: portal.count() })
        expect(portal.doubles()).toEqual([])
        console.log(JSON.stringify({ fault: `queue deleted, ${type}`, sent, dropped, executed: portal.count(), times }))
        yield* stopped(bridge)
      }),
    limit
  )
}

live(
  "the consumer is cancelled under load, its queue recreated in the same breath",
  () =>
    Effect.gen(function* () {
      const own = yield* vhost
      const portal = yield* openPortal({ latency: 20 })
      const bridge = yield* start(own.url, portal)
      const answers = yield* collector(own.url, queueOut)
      const times: Array<number> = []
      for (let round = 0; round < 5 * scale; round++) {
        const some = deals(50)
        yield* publishAll(own.url, queueIn, some)
        yield* until(
          "all are taken",
          Effect.map(own.queueDepth(queueIn), ({ ready }) => ready === 0)
        )
        const mark = bridge.mark()
        yield* own.deleteQueue(queueIn)
        yield* declareQueues(own.url, { in: queueIn })
        times.push(yield* consumesAgain(bridge, mark))
        yield* answers.has(50 * (round + 1))
      }
      yield* settled(own)
      expect(portal.doubles()).toEqual([])
      console.log(JSON.stringify({ fault: "consumer cancelled", times }))
      yield* stopped(bridge)
    }),
  limit
)

/** The node with other limits for as long as the scope lasts; channels that are opened later have them. */
const withLimits = (node: Node, limits: Readonly<Record<string, number>>) =>
  Effect.acquireRelease(
    Effect.forEach(Object.entries(limits), ([name, value]) =>
      Effect.map(
        node.evaluate(
          `Before = application:get_env(rabbit, ${name}), application:set_env(rabbit, ${name}, ${value}), Before`
        ),
        (before) => [name, /^\{ok,(.*)\}$/s.exec(before)?.[1]] as const
      )
    ),
    (before) =>
      Effect.forEach(before, ([name, value]) =>
        Effect.ignore(
          node.evaluate(
            value === undefined
              ? `application:unset_env(rabbit, ${name})`
              : `application:set_env(rabbit, ${name}, ${value})`
          )
        )
      )
  )

live(
  "the broker closes the channel of a delivery that is open for too long",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      yield* withLimits(node, { consumer_timeout: 1_000, channel_tick_interval: 300 })
      const own = yield* node.vhost()
      const portal = yield* openPortal({ latency: 2_500 })
      const bridge = yield* start(own.url, portal)
      const answers = yield* collector(own.url, queueOut)
      const sent = deals(8)
      yield* publishAll(own.url, queueIn, sent)
      const lost = yield* bridge.waitForLine("channel-lost")
      expect(lost.text).toContain("timed out")
      const checked = checkAnswers(sent, yield* answers.has(8))
      expect(checked).toMatchObject({ lost: [], duplicated: [], byOutcome: { done: 8 } })
      expect(portal.count()).toBe(8)
      yield* settled(own)
      yield* stopped(bridge)
    }),
  limit
)

live(
  "the answer queue is deleted: nothing is acknowledged or called until it is there again",
  () =>
    Effect.gen(function* () {
      const own = yield* vhost
      const portal = yield* openPortal({ latency: 100 })
      const bridge = yield* start(own.url, portal)
      for (let round = 0; round < scale; round++) {
        const sent = deals(150)
        const asked = portal.requests
        yield* own.deleteQueue(queueOut)
        yield* publishAll(own.url, queueIn, sent)
        const mark = bridge.mark()
        yield* bridge.waitForLine("answer-not-routed", { after: mark })
        expect((yield* calm(portal)) - asked).toBeLessThan(100)
        const { ready, unacked } = yield* own.queueDepth(queueIn)
        expect(ready + unacked).toBe(150)
        yield* declareQueues(own.url, { out: queueOut })
        yield* Effect.scoped(
          Effect.gen(function* () {
            const answers = yield* collector(own.url, queueOut)
            const checked = checkAnswers(sent, yield* answers.has(150))
            expect(checked).toMatchObject({ lost: [], duplicated: [], byOutcome: { done: 150 } })
            yield* settled(own)
          })
        )
      }
      expect(portal.doubles()).toEqual([])
      yield* stopped(bridge)
    }),
  limit
)

live(
  "the answer queue is full and refuses: nothing is acknowledged or called until it is drained",
  () =>
    Effect.gen(function* () {
      const own = yield* vhost
      const portal = yield* openPortal({ latency: 20 })
      const bridge = yield* start(own.url, portal, { B24RMQ_CONCURRENCY: "8" })
      yield* own.policy("full", `^${queueOut}$`, { "max-length": 10, overflow: "reject-publish" })
      const sent = deals(200)
      yield* publishAll(own.url, queueIn, sent)
      yield* bridge.waitForLine("answer-refused")
      const asked = yield* calm(portal)
      const out = yield* own.queueDepth(queueOut)
      const { ready, unacked } = yield* own.queueDepth(queueIn)
      expect(ready + unacked).toBe(200 - out.ready)
      expect(asked).toBeLessThan(50)
      const answers = yield* collector(own.url, queueOut)
      const checked = checkAnswers(sent, yield* answers.has(200, "50 seconds"))
      expect(checked).toMatchObject({ lost: [], duplicated: [], byOutcome: { done: 200 } })
      expect(portal.doubles()).toEqual([])
      console.log(JSON.stringify({ fault: "answer queue full", sent: 200, askedWhileFull: asked }))
      yield* settled(own)
      yield* stopped(bridge)
    }),
  limit
)

live(
  "an answer larger than the broker takes is replaced, once, and the others come through",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      yield* withLimits(node, { max_message_size: 100_000 })
      const own = yield* node.vhost()
      const portal = yield* openPortal({ latency: 5 })
      portal.fault({ kind: "huge", bytes: 2_000_000, when: { method: "crm.company.list" } })
      const bridge = yield* start(own.url, portal, { B24RMQ_PACK: "off" })
      const answers = yield* collector(own.url, queueOut)
      const large = requests(5 * scale, () => ({ method: "crm.company.list" }))
      const others = deals(200 * scale)
      yield* publishAll(own.url, queueIn, [...others.slice(0, 100), ...large, ...others.slice(100)])
      const checked = checkAnswers([...large, ...others], yield* answers.has(large.length + others.length))
      expect(checked).toMatchObject({ lost: [], unasked: [], different: [] })
      for (const { id } of large) {
        expect(answers.answers.get(id ?? "")?.[0]?.json()).toMatchObject({ error: "B24RMQ_ANSWER_TOO_LARGE" })
      }
      expect(portal.count("crm.company.list")).toBe(large.length)
      expect(portal.doubles()).toEqual([])
      // The broker has to say it once; after that the bridge knows.
      expect(bridge.lines().filter(({ event }) => event === "channel-lost")).toHaveLength(1)
      console.log(JSON.stringify({ fault: "too large", sent: checked.sent, twice: checked.duplicated.length }))
      yield* settled(own)
      yield* stopped(bridge)
    }),
  limit
)
