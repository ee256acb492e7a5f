import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { temporaryFolder } from "../rig/child.ts"
import { command } from "../rig/command.ts"
import { type Answer, collector, declareQueues, publishAll, queueRequest } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"

const queueIn = "bitrix24in"
const queueOut = "bitrix24out"
const queueParked = "bitrix24in.parked"

/** Seconds since 1970. */
const now = () => Math.floor(Date.now() / 1_000)

/** The outcome, or the bridge's own code where it could not send the request. */
const ending = (answer: Answer | undefined) =>
  answer?.outcome === "rejected" ? String((answer.json() as { readonly error: unknown }).error) : answer?.outcome

const add = (messageId: string, timestamp?: number) =>
  queueRequest({
    messageId,
    method: "crm.deal.add",
    params: { fields: { TITLE: messageId, ORIGIN_ID: messageId } },
    ...(timestamp === undefined ? {} : { properties: { timestamp } })
  })

live("age counts from the timestamp, unless it cannot be true; what was too old may be sent anew", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    const portal = yield* openPortal()
    yield* startBridge({ env: { AMPQURL: url, B24REST: portal.url, B24RMQ_MAX_AGE: "60" } })
    const answers = yield* collector(url, queueOut)
    const made: Readonly<Record<string, number | undefined>> = {
      old: now() - 100,
      "old in ms": Date.now() - 100_000,
      young: now() - 20,
      "not yet": now() + 3_600,
      zero: 0,
      counted: 118,
      none: undefined
    }
    yield* publishAll(
      url,
      queueIn,
      Object.entries(made).map(([id, at]) => add(id, at))
    )
    const got = yield* answers.has(Object.keys(made).length)
    const endings = Object.keys(made).map((id) => [id, ending(got.get(id)?.[0])])
    expect(Object.fromEntries(endings)).toEqual({
      old: "B24RMQ_EXPIRED",
      "old in ms": "B24RMQ_EXPIRED",
      young: "done",
      "not yet": "done",
      zero: "done",
      counted: "done",
      none: "done"
    })
    expect(got.get("old")?.[0]).toMatchObject({ method: "crm.deal.add", attempts: 0, status: undefined })
    expect(got.get("old")?.[0]?.body.toString()).toMatch(/is 10\d s old, and B24RMQ_MAX_AGE allows 60 s/)
    expect(portal.count("crm.deal.add")).toBe(5)
    yield* publishAll(url, queueIn, [add("old", now())])
    yield* until(
      "the old one is done, too",
      Effect.sync(() => answers.answers.get("old")?.[1]?.outcome === "done")
    )
    expect(portal.count("crm.deal.add", "old")).toBe(1)
  })
)

live("while the portal is away what becomes too old is answered; a write in doubt is found out about first", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    const portal = yield* openPortal()
    const env = { AMPQURL: url, B24REST: portal.url, B24RMQ_MAX_AGE: "2", B24RMQ_PORTAL_LIMIT: "3" }
    const bridge = yield* startBridge({ env })
    const answers = yield* collector(url, queueOut)
    const cut = (containing: string, executed: boolean) =>
      portal.fault({ kind: "reset", executed, when: { only: "writes", containing, next: 1 } })
    cut("cut-after", true)
    cut("cut-before", false)
    cut("cut-update", false)
    const update = queueRequest({
      messageId: "cut-update",
      method: "crm.deal.update",
      params: { id: "1", fields: { TITLE: "cut-update" } }
    })
    yield* publishAll(url, queueIn, [add("cut-after"), add("cut-before"), update])
    const got = yield* answers.has(3)
    expect(["cut-after", "cut-before", "cut-update"].map((id) => ending(got.get(id)?.[0]))).toEqual([
      "done",
      "B24RMQ_EXPIRED",
      "unknown"
    ])
    expect(got.get("cut-after")?.[0]?.headers["x-b24rmq-resolved"]).toBe("found")
    expect(got.get("cut-before")?.[0]?.attempts).toBe(1)
    expect(got.get("cut-update")?.[0]?.body.toString()).toContain("too old to be sent again")
    expect(portal.count("crm.deal.add")).toBe(1)
    expect(portal.count("crm.deal.update")).toBe(0)

    yield* portal.down
    // Has answered this, and so has seen before that its idle connections are cut: a write on one of them would be in doubt.
    yield* command(bridge, ["status"])
    const held = ["held", "held-too"]
    yield* publishAll(
      url,
      queueIn,
      held.map((id) => add(id))
    )
    yield* answers.has(5)
    expect(held.map((id) => ending(answers.answers.get(id)?.[0]))).toEqual(["B24RMQ_EXPIRED", "B24RMQ_EXPIRED"])
    yield* portal.up
    yield* publishAll(url, queueIn, [add("later")])
    expect((yield* answers.answerTo("later")).outcome).toBe("done")
    expect(portal.count("crm.deal.add")).toBe(2)
  })
)

live("the deadline of a parked request outlives a kill, and is kept while its method is closed", () =>
  Effect.gen(function* () {
    const { url, queueDepth } = yield* vhost
    // After ten of them the method is closed for half a minute.
    const limits = {
      operating: { state: "on", cost: { "crm.deal.add": 1 }, limit: 10, bucket: 3_000 }
    } as const
    const portal = yield* openPortal({ limits })
    yield* declareQueues(url, { in: queueIn, out: queueOut })
    const start = startBridge({
      env: {
        AMPQURL: url,
        B24REST: portal.url,
        B24RMQ_MAX_AGE: "5",
        B24RMQ_PREFETCH: "20",
        B24RMQ_PACK: "off",
        STATE_DIRECTORY: yield* temporaryFolder("journal")
      }
    })
    const bridge = yield* start
    const answers = yield* collector(url, queueOut)
    const ids = Array.from({ length: 60 }, (_, n) => `m-${n}`)
    const published = performance.now()
    yield* publishAll(
      url,
      queueIn,
      ids.map((id) => add(id))
    )
    const parked = yield* until(
      "most of them rest",
      Effect.map(
        Effect.orElseSucceed(queueDepth(queueParked), () => undefined),
        (depth) => depth !== undefined && depth.ready + depth.unacked >= 30 && depth
      )
    )
    expect(performance.now() - published).toBeLessThan(5_000)
    yield* bridge.kill("SIGKILL")
    yield* bridge.exited
    yield* start
    const got = yield* answers.has(ids.length)
    const endings = ids.map((id) => ending(got.get(id)?.[0]))
    const done = endings.filter((one) => one === "done").length
    expect(endings.filter((one) => one === "B24RMQ_EXPIRED").length).toBe(ids.length - done)
    expect(ids.length - done).toBeGreaterThanOrEqual(parked.ready)
    expect(portal.count("crm.deal.add")).toBe(done)
    expect(performance.now() - published).toBeLessThan(20_000)
    yield* until(
      "nothing rests any more",
      Effect.map(queueDepth(queueParked), ({ ready, unacked }) => ready + unacked === 0)
    )
  })
)
