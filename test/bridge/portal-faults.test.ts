import { expect } from "bun:test"
import { Effect, Fiber, type Scope } from "effect"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { type Bridge, startBridge } from "../rig/bridge.ts"
import type { RigFailed } from "../rig/until.ts"
import { checkAnswers, collector, publishAll, requests } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"

/** How long a fault lasts, in seconds; 20 for the full form. */
const span = Number(process.env.B24RMQ_TEST_FAULT_SECONDS ?? 4)

/** Requests of the load: three reads to one write. Every write has a name, by which it can be found again. */
const load = (count: number) =>
  requests(count, (n) =>
    n % 4 === 0
      ? { method: "crm.deal.add", params: { fields: { TITLE: `deal ${n}`, ORIGIN_ID: `deal-${n}` } } }
      : { method: "crm.deal.list", params: { filter: { ">ID": n }, start: -1 } }
  )

type Scene = Effect.Effect<void, RigFailed | { readonly _tag: "PortalFailed" }, Scope.Scope>

/**
 * Sends a load for as long as the fault lasts, and holds the bridge to its promises: every request answered once, every
 * write executed once, and all done: what was cut off is found out, alone or packed.
 */
const survives = (name: string, scene: (portal: Portal, bridge: Bridge) => Scene) =>
  live(
    name,
    () =>
      Effect.gen(function* () {
        const { url } = yield* vhost
        const portal = yield* openPortal({ latency: { call: 5 } })
        const bridge = yield* startBridge({ env: { AMPQURL: url, B24REST: portal.url, B24RMQ_PORTAL_LIMIT: "1" } })
        const answers = yield* collector(url, "bitrix24out")
        const sent = load(span * 150)
        const publishing = yield* Effect.forkChild(publishAll(url, "bitrix24in", sent, { rate: 100 }))
        yield* scene(portal, bridge)
        portal.clearFaults()
        const got = yield* answers.has(sent.length, "60 seconds")
        const { lost, duplicated, byOutcome } = checkAnswers(sent, got)
        expect({ lost, duplicated, byOutcome }).toEqual({
          lost: [],
          duplicated: [],
          byOutcome: { done: sent.length }
        })
        expect(portal.doubles()).toEqual([])
        expect(portal.count("crm.deal.add")).toBe(sent.length / 4)
        expect(bridge.ended()).toBeUndefined()
        yield* Fiber.join(publishing)
      }),
    120_000
  )

const lasting = Effect.sleep(`${span} seconds`)

survives("a portal that refuses connections", (portal) =>
  Effect.gen(function* () {
    yield* portal.until(({ requests }) => requests > 20)
    yield* portal.down
    yield* lasting
    yield* portal.up
  })
)

survives("a gateway that answers 502 in HTML to everything", (portal) =>
  Effect.gen(function* () {
    yield* portal.until(({ requests }) => requests > 20)
    portal.fault({ kind: "html", status: 502 })
    yield* lasting
  })
)

survives("a gateway that answers 502 in HTML to every second call", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "html", status: 502, when: { every: 2 } })
    yield* lasting
  })
)

survives("answers cut in the middle", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "cut", when: { probability: 0.05, seed: 7 } })
    portal.fault({ kind: "cut", chunked: true, reset: true, when: { probability: 0.05, seed: 8 } })
    yield* lasting
  })
)

survives("connections reset after execution", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "reset", executed: true, when: { probability: 0.1, seed: 9 } })
    yield* lasting
  })
)

survives("calls that hang for ever, executed or not", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "hang", executed: true, when: { only: "writes", next: 2 } })
    portal.fault({ kind: "hang", when: { only: "reads", next: 2 } })
    yield* portal.until(({ count }) => count() > span * 140)
  })
)
