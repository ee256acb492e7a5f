import { expect } from "bun:test"
import { connect } from "amqplib"
import { Effect } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { collector, declareQueues, publishAll, queueRequest } from "../rig/producer.ts"
import { victim } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import { queueIn, queueOut, scale, underLoad } from "./load.ts"

const limit = 60_000 * Math.max(1, scale)
const full = scale > 1

live(
  "the broker is killed and started again",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      yield* underLoad("kill -9", yield* node.vhost(), {}, (load) =>
        Effect.gen(function* () {
          for (let round = 0; round < scale; round++) {
            yield* load.interrupted(Effect.andThen(node.kill9, node.start))
            yield* load.answered(100)
          }
        })
      )
    }),
  limit
)

/** Consumes without acknowledging, until the broker ends it. */
const hoard = (url: string, count: number) =>
  Effect.promise(async () => {
    const link = await connect(url)
    link.on("error", () => undefined)
    const channel = await link.createChannel()
    channel.on("error", () => undefined)
    await channel.prefetch(count)
    let got = 0
    await new Promise<void>((resolve) => void channel.consume(queueIn, () => ++got === count && resolve()))
  })

live(
  "a quorum queue whose broker was killed: what was in hand comes before what lay behind it",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      for (let round = 0; round < 2 * scale; round++) {
        const own = yield* node.vhost()
        const portal = yield* openPortal()
        portal.crm.table("deal").add([["TITLE", "0"]])
        yield* declareQueues(own.url, { in: queueIn, out: queueOut, type: "quorum" })
        const answers = yield* collector(own.url, queueOut)
        const titles = Array.from({ length: 60 }, (_, number) => `${number + 1}`)
        const update = (TITLE: string) =>
          queueRequest({ method: "crm.deal.update", params: { id: "1", fields: { TITLE } } })
        yield* publishAll(own.url, queueIn, titles.map(update))
        yield* hoard(own.url, 40)
        yield* node.kill9
        const bridge = startBridge({ env: { AMPQURL: own.url, B24REST: portal.url }, within: "1 minute" })
        yield* Effect.zip(bridge, node.start, { concurrent: true })
        yield* answers.has(titles.length)
        expect(portal.executions.map(({ key }) => key)).toEqual(titles)
      }
    }).pipe(Effect.scoped),
  limit
)

live(
  "the broker is stopped and started in good order",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      yield* underLoad("stop_app, start_app", yield* node.vhost(), {}, (load) =>
        Effect.gen(function* () {
          for (let round = 0; round < scale; round++) {
            yield* load.interrupted(Effect.andThen(node.stopApp, node.startApp))
            yield* load.answered(100)
          }
        })
      )
    }),
  limit
)

live(
  "every connection is closed each second",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      yield* underLoad("close_all_connections", yield* node.vhost(), {}, (load) =>
        Effect.gen(function* () {
          for (let round = 0; round < (full ? 20 : 5); round++) {
            const next = performance.now() + 1_000
            yield* load.interrupted(node.closeAllConnections)
            yield* Effect.sleep(Math.max(0, next - performance.now()))
          }
        })
      )
    }),
  limit
)

live(
  "the broker is frozen and thawed",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      const vhost = yield* node.vhost()
      // The full length waits for the bridge's own heartbeat, the short one for a faster one.
      const url = full ? vhost.url : `${vhost.url}?heartbeat=2`
      yield* underLoad("SIGSTOP", vhost, { url, latency: 100 }, (load) =>
        Effect.gen(function* () {
          for (let round = 0; round < (full ? 3 : 1); round++) {
            yield* load.interrupted(
              Effect.gen(function* () {
                const mark = load.bridge.mark()
                const started = performance.now()
                yield* node.freeze
                yield* load.bridge.waitForLine("link-lost", { after: mark, within: "40 seconds" })
                if (full) yield* Effect.sleep(Math.max(0, started + 30_000 - performance.now()))
                yield* node.thaw
                yield* node.ready
              })
            )
            yield* load.answered(100)
          }
        })
      )
      expect(node.log()).not.toContain("unknown delivery tag")
    }),
  limit + 60_000
)

live(
  "a memory alarm: no call starts while it lasts",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      yield* underLoad("memory alarm", yield* node.vhost(), { latency: 100, rate: 60 }, (load) =>
        Effect.gen(function* () {
          for (let round = 0; round < scale; round++) {
            const mark = load.bridge.mark()
            // The broker blocks whoever publishes during the alarm: calls have to be under way.
            yield* load.portal.until(({ inFlight }) => inFlight > 4)
            yield* node.memoryAlarm(true)
            yield* load.bridge.waitForLine("broker-blocked", { after: mark })
            yield* load.portal.until(({ inFlight }) => inFlight === 0)
            const { requests } = load.portal
            yield* Effect.sleep(full ? "10 seconds" : "1 second")
            expect(load.portal.requests).toBe(requests)
            yield* node.memoryAlarm(false)
            yield* until(
              "calls are made again",
              Effect.sync(() => load.portal.requests > requests),
              { within: "2 seconds" }
            )
            yield* load.answered(100)
          }
        })
      )
    }),
  limit
)
