import { expect } from "bun:test"
import { Effect, Schedule } from "effect"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { type Bridge, startBridge } from "../rig/bridge.ts"
import { checkAnswers, collector, declareQueues, publishAll, queueRequest } from "../rig/producer.ts"
import { temporaryFolder } from "../rig/child.ts"
import { victim } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import { queueIn, queueOut, scale, settled, stopped } from "./load.ts"

const queueParked = `${queueIn}.parked`
const full = scale > 1

/** Updates of each of so many deals, and how many may be in the window of the bridge. */
const size = full ? { deals: 200, updates: 100, prefetch: 1_000 } : { deals: 15, updates: 20, prefetch: 150 }

/** A part of the updates may run in one window of the portal; then it closes the method for some seconds. */
const limits = {
  operating: {
    state: "on",
    cost: { "crm.deal.update": 0.2 },
    limit: (size.deals * size.updates * 0.2) / (full ? 10 : 5),
    bucket: full ? 1_000 : 200
  }
} as const

const updates = Array.from({ length: size.updates }, (_, number) =>
  Array.from({ length: size.deals }, (_, deal) =>
    queueRequest({
      method: "crm.deal.update",
      params: { id: `${deal + 1}`, fields: { TITLE: `${deal + 1}:${number + 1}` } }
    })
  )
).flat()

/** Updates whose first execution came after that of a later one of their deal. */
const inversionsIn = ({ executions }: Portal): ReadonlyArray<string> => {
  const ran = new Set<string>()
  const latest = new Map<string, number>()
  return executions.flatMap(({ key = "", error }) => {
    const [deal = "", number = "0"] = key.split(":")
    if (error !== undefined || ran.has(key)) return []
    ran.add(key)
    const before = latest.get(deal) ?? 0
    latest.set(deal, Math.max(before, Number(number)))
    return Number(number) < before ? [key] : []
  })
}

// The short form of a quorum queue is test/queue/parked-faults.test.ts.
for (const type of full ? (["classic", "quorum"] as const) : (["classic"] as const)) {
  live(
    `requests of a closed method rest while bridge and broker are killed: ${type}`,
    () =>
      Effect.gen(function* () {
        const node = yield* victim
        const own = yield* node.vhost()
        const portal = yield* openPortal({ latency: 2, limits, keep: 10 * updates.length })
        for (let deal = 1; deal <= size.deals; deal++) portal.crm.table("deal").add([["TITLE", `${deal}:0`]])
        yield* declareQueues(own.url, { in: queueIn, out: queueOut, type })
        yield* declareQueues(own.url, { in: queueParked, type })
        const answers = yield* collector(own.url, queueOut)
        yield* publishAll(own.url, queueIn, updates, { within: "5 minutes" })
        const start = startBridge({
          env: {
            AMPQURL: own.url,
            B24REST: portal.url,
            B24RMQ_PREFETCH: `${size.prefetch}`,
            B24RMQ_PORTAL_LIMIT: "2",
            STATE_DIRECTORY: yield* temporaryFolder("journal")
          },
          within: "60 seconds"
        })
        let bridge: Bridge = yield* start
        let most = 0
        yield* own.queueDepth(queueParked).pipe(
          // One that a killed broker never answers must not be the last.
          Effect.timeout("2 seconds"),
          Effect.orElseSucceed(() => ({ ready: 0, unacked: 0 })),
          Effect.map(({ ready, unacked }) => void (most = Math.max(most, ready + unacked))),
          Effect.repeat(Schedule.spaced("200 millis")),
          Effect.forkScoped
        )
        const kills = full ? 6 : 2
        for (let round = 1; round <= kills; round++) {
          yield* Effect.timeout(
            portal.until(({ count }) => count("crm.deal.update") > (updates.length * round) / (kills + 3)),
            "5 minutes"
          )
          // Not soon after the broker: a quorum queue is seconds behind in giving back what it had lent, and only a bridge that
          // lives on knows what is still to come.
          if (round % 2 === 1) {
            yield* bridge.kill("SIGKILL")
            yield* bridge.exited
            bridge = yield* start
          } else yield* Effect.andThen(node.kill9, node.start)
        }
        const got = yield* answers.has(updates.length, "10 minutes")
        yield* settled(own)
        const checked = checkAnswers(updates, got)
        const inversions = inversionsIn(portal)
        console.log(
          JSON.stringify({
            fault: `parked, ${type}`,
            sent: updates.length,
            "most resting": most,
            "refused for their time": portal.refusals.get("OPERATION_TIME_LIMIT") ?? 0,
            lost: checked.lost.length,
            inversions: inversions.length,
            "answered twice": checked.duplicated.length,
            // An update that was in doubt is sent again.
            "run twice": portal.doubles().length
          })
        )
        expect(checked).toMatchObject({ lost: [], unasked: [], byOutcome: { done: expect.any(Number) } })
        expect(Object.keys(checked.byOutcome)).toEqual(["done"])
        expect(inversions).toEqual([])
        expect(most).toBeGreaterThan(0)
        yield* until(
          "nothing rests any more",
          Effect.map(own.queueDepth(queueParked), ({ ready, unacked }) => ready + unacked === 0)
        )
        yield* stopped(bridge)
      }),
    full ? 1_200_000 : 90_000
  )
}
