import { describe, expect } from "bun:test"
import { Duration, Effect, Layer, Logger, Option, References, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import { Dispatch } from "../../src/bridge/dispatch.ts"
import type { Health } from "../../src/bridge/waits.ts"
import { Journeys, type Stage } from "../../src/bridge/journeys.ts"
import { Lines } from "../../src/bridge/lines.ts"
import { Journal } from "../../src/journal/journal.ts"
import type { JournalState } from "../../src/journal/known.ts"
import type { Request } from "../../src/message/request.ts"
import { Connection, type Link } from "../../src/queue/connection.ts"
import type { HeldNow } from "../../src/queue/held.ts"
import { Intake, type Wanted } from "../../src/queue/intake.ts"
import { Outlet } from "../../src/queue/outlet.ts"
import { Settings } from "../../src/settings.ts"
import { Progress } from "../../src/watch/progress.ts"
import { Systemd } from "../../src/watch/systemd.ts"
import { effect } from "../effect.ts"
import { delivery } from "../queue/parked.ts"

/** What the bridge is like, for as long as the test wants. */
interface World {
  held: ReadonlyArray<HeldNow>
  /** What the queue says when it is asked. */
  queue: { messageCount: number; consumerCount: number }
  journal: JournalState
  closed: string | undefined
  unconfirmed: { count: number; next: unknown; confirmed: number }
  confirms: boolean
  /** Requests that are at this stage. */
  stages: ReadonlyArray<Stage>
  /** Whether the waiting room knows of them. */
  isHeld: boolean
  couldLeave: boolean
  oldestCall: number | undefined
  left: number
}

const atRest: World = {
  held: [],
  queue: { messageCount: 0, consumerCount: 1 },
  journal: { _tag: "ready" },
  closed: undefined,
  unconfirmed: { count: 0, next: undefined, confirmed: 0 },
  confirms: false,
  stages: [],
  isHeld: true,
  couldLeave: false,
  oldestCall: undefined,
  left: 0
}

const idle: HeldNow = { queue: "in", open: [], idleSince: 0 }
const open = (): HeldNow => ({ queue: "in", open: [{ delivery: delivery("{}"), since: 0 }], idleSince: undefined })

/** Watches such a world; tells what was logged and done, and how often systemd was fed. */
const watching = Effect.fnUntraced(function* (changes: Partial<World>) {
  const world: World = { ...atRest, ...changes }
  const told: Array<string> = []
  const done: Array<string> = []
  let fed = 0
  let looks = 0
  const keep = Logger.make(({ fiber }) => {
    const { event, part, reason } = fiber.getRef(References.CurrentLogAnnotations)
    told.push([event, part, reason].filter((word) => word !== undefined).join(" "))
  })
  const does = (what: string) => Effect.sync(() => void done.push(what))
  const channel = {
    on: () => channel,
    once: () => channel,
    close: async () => {},
    checkQueue: async () => {
      looks++
      return { queue: "in", ...world.queue }
    }
  }
  const link = {
    model: { createChannel: async () => channel },
    lost: Effect.never,
    isLost: () => false,
    received: () => 0,
    heartbeat: 0
  }
  const closed = yield* SubscriptionRef.make<string | undefined>(world.closed)
  const state = yield* SubscriptionRef.make<JournalState>(world.journal)
  const services = yield* Layer.build(
    Progress.layer.pipe(
      Layer.provideMerge(
        Layer.mergeAll(
          Journeys.layer,
          Layer.mock(Connection, {
            blocked: yield* SubscriptionRef.make<string | undefined>(undefined),
            link: yield* SubscriptionRef.make<Link | undefined>(link as unknown as Link),
            restart: does("connection")
          }),
          Layer.mock(Intake, {
            consuming: yield* SubscriptionRef.make(true),
            losses: yield* SubscriptionRef.make(0),
            wanted: yield* SubscriptionRef.make<Wanted>("taking"),
            held: Effect.sync(() => world.held),
            restart: does("intake")
          }),
          Layer.mock(Outlet, {
            closed,
            unconfirmed: Effect.sync(() => world.unconfirmed),
            confirms: Effect.sync(() => world.confirms),
            restart: does("outlet")
          }),
          Layer.mock(Dispatch, {
            lines: new Lines(() => {}),
            closedUntil: () => undefined,
            health: yield* SubscriptionRef.make<Health>("well"),
            look: does("dispatch"),
            activity: {
              held: () => new Set(world.isHeld ? ["id"] : []),
              couldLeave: () => world.couldLeave,
              oldestCall: () => world.oldestCall,
              left: () => world.left,
              ended: () => 0
            }
          }),
          Layer.mock(Journal, { state }),
          Layer.mock(Systemd, {
            watchdog: Effect.sync(() => void fed++),
            watchdogInterval: Option.some(Duration.seconds(15))
          }),
          Layer.succeed(Settings, {
            ampqOut: "out",
            portalLimit: Duration.seconds(60)
          } as unknown as Settings["Service"])
        )
      ),
      Layer.provide(Logger.layer([keep]))
    )
  )
  const { progress } = yield* Effect.all({ progress: Progress, journeys: Journeys }).pipe(
    Effect.tap(({ journeys }) =>
      Effect.sync(() => {
        for (const stage of world.stages) {
          const journey = journeys.begin(delivery("{}"), 0)
          journey.request = { id: "id" } as unknown as Request
          journey.stage = stage
        }
      })
    ),
    Effect.provide(services)
  )
  yield* Effect.forkScoped(Effect.provide(progress.run, Logger.layer([keep])))
  /** Lets so many seconds pass, as they do: one after another. */
  const pass = (seconds: number) =>
    Effect.gen(function* () {
      for (let second = 0; second < seconds; second++) {
        yield* TestClock.adjust("1 second")
        // What was asked of the broker is answered in between.
        yield* Effect.promise(() => new Promise((next) => setImmediate(next)))
      }
    })
  const news = () => ({ told: told.splice(0), done: done.splice(0) })
  return { world, pass, news, progress, fed: () => fed, looks: () => looks }
})

describe("a reason to wait is no stall, for five minutes", () => {
  const reasons: Readonly<Record<string, Partial<World>>> = {
    "nothing to do": { held: [idle] },
    "a queue that another consumer is served from": { held: [idle], queue: { messageCount: 500, consumerCount: 2 } },
    "a full window": {
      held: [{ queue: "in", open: [], idleSince: undefined }],
      queue: { messageCount: 500, consumerCount: 1 }
    },
    "an alarm": {
      closed: "the broker takes no messages: low on memory",
      unconfirmed: { count: 3, next: "first", confirmed: 0 },
      stages: ["answer", "waiting"]
    },
    "an answer queue that refuses": { closed: "the queue out refuses messages", stages: ["answer"] },
    "the portal, a budget, or order": { stages: ["waiting"], isHeld: true },
    "a journal that cannot be written": {
      journal: { _tag: "failed", reason: "disk full" },
      stages: ["journal", "waiting"],
      oldestCall: 0
    },
    "standing by": { journal: { _tag: "standby" }, stages: ["journal"] },
    "a doubt, a twin, or a place to rest": { stages: ["doubt", "twin", "parking"] }
  }
  for (const [name, world] of Object.entries(reasons)) {
    effect(name, () =>
      Effect.gen(function* () {
        const { fed, looks, news, pass, progress } = yield* watching(world)
        yield* pass(300)
        expect(news()).toEqual({ told: [], done: [] })
        expect(SubscriptionRef.getUnsafe(progress.stalls)).toEqual([])
        expect(fed()).toBe(21)
        // A queue is looked at now and then, and only where that tells anything.
        expect(looks()).toBe(world.held?.[0]?.idleSince === undefined ? 0 : 30)
      })
    )
  }
})

describe("a stall is told of, and its part restarted, within half a minute", () => {
  const stalls: Readonly<Record<string, readonly [Partial<World>, string, string]>> = {
    "a delivery that nobody works on": [
      { held: [open()] },
      "stalled intake nobody works on a request that in has brought",
      "intake"
    ],
    "a consumer that gets nothing of what its queue holds": [
      { held: [idle], queue: { messageCount: 1, consumerCount: 1 } },
      "stalled intake in holds requests and brings none",
      "intake"
    ],
    "a consumer that the broker does not know": [
      { held: [idle], queue: { messageCount: 1, consumerCount: 0 } },
      "stalled intake in holds requests and brings none",
      "intake"
    ],
    "a request that is not where it should wait": [
      { stages: ["waiting"], isHeld: false },
      "stalled bridge a request that should wait for its call is not there",
      "intake"
    ],
    "an answer that is not published": [{ stages: ["answer"] }, "stalled bridge an answer is not published", "intake"],
    "requests that could be called": [
      { couldLeave: true },
      "stalled dispatch requests wait though they could be called",
      "dispatch"
    ],
    "a confirm that never comes": [
      { unconfirmed: { count: 1, next: "first", confirmed: 7 }, stages: ["answer"] },
      "stalled outlet out does not confirm an answer",
      "outlet"
    ]
  }
  for (const [name, [world, event, remedy]] of Object.entries(stalls)) {
    effect(name, () =>
      Effect.gen(function* () {
        const { news, pass, progress } = yield* watching(world)
        yield* pass(8)
        expect(news()).toEqual({ told: [], done: [] })
        yield* pass(18)
        const { told, done } = news()
        expect([told[0], done[0]]).toEqual([event, remedy])
        expect(SubscriptionRef.getUnsafe(progress.stalls)).toHaveLength(1)
      })
    )
  }
})

effect("a journal that does not answer is given its own time, and a call its limit", () =>
  Effect.gen(function* () {
    const journal = yield* watching({ stages: ["journal"] })
    const call = yield* watching({ oldestCall: 0, stages: ["waiting"] })
    yield* journal.pass(34)
    expect(journal.news().told).toEqual([])
    yield* journal.pass(2)
    expect(journal.news()).toEqual({ told: ["stalled bridge the journal does not answer"], done: ["intake"] })
    // 60 s of the portal, 10 s of the client, 20 s of patience.
    yield* journal.pass(52)
    expect(call.news().told).toEqual([])
    yield* journal.pass(4)
    expect(call.news()).toEqual({ told: ["stall-stays portal a call does not end"], done: [] })
  })
)

effect("systemd is fed while there is hope, starved when there is none, and fed again when it moves", () =>
  Effect.gen(function* () {
    const { fed, news, pass, progress, world } = yield* watching({ couldLeave: true })
    yield* pass(30)
    expect(news()).toEqual({
      told: [
        "stalled dispatch requests wait though they could be called",
        "stall-stays dispatch requests wait though they could be called"
      ],
      done: ["dispatch"]
    })
    const before = fed()
    yield* pass(45)
    expect(fed()).toBe(before)
    world.left = 1
    world.couldLeave = false
    yield* pass(30)
    expect(news().told).toEqual(["stall-over dispatch"])
    expect(fed()).toBe(before + 2)
    expect(SubscriptionRef.getUnsafe(progress.stalls)).toEqual([])
  })
)

effect("an answer queue that confirms nothing though the broker does is told of once, and left alone", () =>
  Effect.gen(function* () {
    const { fed, news, pass, world } = yield* watching({
      unconfirmed: { count: 1, next: "first", confirmed: 7 },
      confirms: true
    })
    yield* pass(600)
    expect(news()).toEqual({
      told: ["stalled outlet out does not confirm an answer", "answers-unconfirmed"],
      done: ["outlet"]
    })
    expect(fed()).toBe(41)
    // Once it has confirmed again, it may stall again.
    world.unconfirmed = { count: 1, next: "second", confirmed: 8 }
    yield* pass(30)
    expect(news().told).toEqual(["stalled outlet out does not confirm an answer"])
  })
)
