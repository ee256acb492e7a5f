import { expect, test } from "bun:test"
import { NodeServices } from "@effect/platform-node"
import { Clock, Effect, Exit, Layer, Logger, Scope } from "effect"
import { TestClock } from "effect/testing"
import fc from "fast-check"
import { bridge } from "../../src/bridge/bridge.ts"
import { Dispatch } from "../../src/bridge/dispatch.ts"
import { Journeys } from "../../src/bridge/journeys.ts"
import { Journal } from "../../src/journal/journal.ts"
import { Replay } from "../../src/bridge/replay.ts"
import { Settings } from "../../src/settings.ts"
import { brokerOnClock } from "./broker-on-clock.ts"
import { parametersOf, portalOnClock } from "./portal-on-clock.ts"

interface Asked {
  readonly gap: number
  readonly user: string
  readonly method: string
  readonly order: string | undefined
}

interface Plan {
  readonly asked: ReadonlyArray<Asked>
  readonly window: number
  /** Seconds that a method may take in ten buckets, and the milliseconds of one. */
  readonly limit: number
  readonly bucket: number
  /** When the channel of parked ones is lost, and when the bridge is killed and another one started; milliseconds. */
  readonly losses: ReadonlyArray<number>
  readonly kills: ReadonlyArray<number>
}

const costs = new Map([
  ["crm.deal.list", 5],
  ["crm.item.list", 300]
])
const takes = (method: string) => costs.get(method) ?? 0

const nothingKept = Layer.mock(Replay, { settled: () => Effect.void })

const horizon = 2 * 3_600_000

/** The whole bridge between a broker and a portal, on the test clock, until nothing is left to be done. */
const play = ({ asked, window, limit, bucket, losses, kills }: Plan) =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const now = () => clock.currentTimeMillisUnsafe()
    const broker = brokerOnClock()
    const portal = portalOnClock({
      limits: { operating: { limit, bucket } },
      phase: 0,
      methodOf: (which) => asked[which]?.method ?? "",
      takes,
      way: 2,
      departs: () => {},
      returns: () => {}
    })
    const settings = Settings.layerOf({
      AMPQURL: "amqp://127.0.0.1/",
      B24REST: "https://box.example/rest/",
      AMPQIN: "in",
      B24RMQ_PREFETCH: String(window),
      B24RMQ_RATE: "off",
      B24RMQ_DRAIN: "0"
    }).pipe(Layer.provide(NodeServices.layer))
    /** What a bridge that was killed had in hand, or was the only one to know that it was executed. */
    const inHand = new Set<string>()

    const life = Effect.gen(function* () {
      const session = broker.session(window)
      const scope = yield* Scope.make()
      const services = Dispatch.layer.pipe(
        Layer.provideMerge(
          Layer.mergeAll(session.layer, portal.layer, Journal.layerMemory, Journeys.layer, nothingKept)
        ),
        Layer.provideMerge(settings)
      )
      const context = yield* Layer.buildWithScope(services, scope)
      yield* bridge.pipe(Effect.provideContext(context), Scope.provide(scope), Effect.forkIn(scope))
      return {
        loseParked: session.loseParked,
        kill: Effect.suspend(() => {
          const unanswered = portal.record.executed.map(String).filter((id) => !broker.answers.includes(id))
          for (const id of [...session.kill(), ...unanswered]) inHand.add(id)
          return Scope.close(scope, Exit.void)
        })
      }
    })

    let bridgeNow = yield* life
    const events = [
      ...losses.map((at) => ({ at, act: Effect.suspend(() => bridgeNow.loseParked) })),
      ...kills.map((at) => ({
        at,
        act: Effect.gen(function* () {
          yield* bridgeNow.kill
          bridgeNow = yield* life
        })
      }))
    ].toSorted((one, other) => one.at - other.at)

    const come = Effect.gen(function* () {
      yield* Effect.sleep(1)
      for (const [which, { gap, method, order, user }] of asked.entries()) {
        yield* Effect.sleep(gap)
        const headers = { method, user, token: "s", ...(order === undefined ? {} : { order }) }
        broker.publish(String(which), headers, parametersOf(which))
      }
    })
    const settle = Effect.repeat(Effect.yieldNow, { times: 30 })
    yield* settle
    yield* Effect.forkScoped(come, { startImmediately: true })
    for (const { at, act } of events) {
      yield* TestClock.adjust(Math.max(0, at - now()))
      yield* act
      yield* settle
    }
    while (!(broker.isEmpty() && new Set(broker.answers).size === asked.length) && now() < horizon)
      yield* TestClock.adjust("1 second")
    const end = now()
    yield* bridgeNow.kill
    return { ...portal.record, answers: broker.answers, parked: broker.parked, inHand, end }
  }).pipe(Effect.scoped, Effect.provide([TestClock.layer(), Logger.layer([])]))

const asked: fc.Arbitrary<Asked> = fc.record({
  gap: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 500 }) }),
  user: fc.constantFrom("1", "1", "2"),
  method: fc.constantFrom(...costs.keys()),
  order: fc.option(fc.constantFrom("a", "b", "c", "d"), { nil: undefined })
})

const plans = (events: { readonly losses: number; readonly kills: number }): fc.Arbitrary<Plan> =>
  fc.record({
    asked: fc.array(asked, { minLength: 50, maxLength: 200, size: "max" }),
    window: fc.integer({ min: 5, max: 40 }),
    limit: fc.integer({ min: 2, max: 6 }),
    bucket: fc.integer({ min: 500, max: 2_000 }),
    losses: fc.array(fc.integer({ min: 100, max: 30_000 }), { maxLength: events.losses }),
    kills: fc.array(fc.integer({ min: 100, max: 30_000 }), { maxLength: events.kills })
  })

/** Requests that were first executed after a later one of their line. */
const inversionsIn = ({ asked }: Plan, executed: ReadonlyArray<number>) => {
  const latest = new Map<string, number>()
  return [...new Set(executed)].filter((which) => {
    const { order, user } = asked[which] ?? { order: undefined, user: "" }
    if (order === undefined) return false
    const line = `${user} ${order}`
    const before = latest.get(line) ?? -1
    latest.set(line, Math.max(before, which))
    return which < before
  })
}

const sorted = (numbers: Iterable<number>) => [...numbers].toSorted((one, other) => one - other)

/** Seconds until all can be done, by the operating time that those of one user may take. */
const leastTime = ({ asked, bucket, limit }: Plan) => {
  const dues = Object.values(Object.groupBy(asked, ({ user, method }) => `${user} ${method}`)).map((those = []) =>
    those.reduce((sum, { method }) => sum + takes(method), 0)
  )
  return (Math.max(...dues) / 1_000 / limit) * (bucket / 100)
}

test("parked requests come back once, in their order, and in time", async () => {
  let parkings = 0
  await fc.assert(
    fc.asyncProperty(plans({ losses: 2, kills: 0 }), async (plan) => {
      const { answers, end, executed, parked } = await Effect.runPromise(play(plan))
      parkings += parked.length
      const all = [...plan.asked.keys()]
      expect(sorted(executed)).toEqual(all)
      expect(sorted(answers.map(Number))).toEqual(all)
      expect(inversionsIn(plan, executed)).toEqual([])
      const disturbed = Math.max(0, ...plan.losses) / 1_000
      expect(end / 1_000).toBeLessThanOrEqual(disturbed + 1.1 * leastTime(plan) + (1.5 * plan.bucket) / 100)
    }),
    { numRuns: 12, endOnFailure: true }
  )
  expect(parkings).toBeGreaterThan(100)
})

test("a bridge that is killed loses none and changes no order, and what it had not in hand comes back once", async () => {
  let parkings = 0
  await fc.assert(
    fc.asyncProperty(plans({ losses: 1, kills: 3 }), async (plan) => {
      const { answers, executed, inHand, parked } = await Effect.runPromise(play(plan))
      parkings += parked.length
      const all = [...plan.asked.keys()]
      expect(sorted(new Set(executed))).toEqual(all)
      expect(sorted(new Set(answers.map(Number)))).toEqual(all)
      expect(inversionsIn(plan, executed)).toEqual([])
      const twice = [executed, answers.map(Number)].flatMap((those) => those.filter((one, n) => those.indexOf(one) < n))
      expect(twice.filter((which) => !inHand.has(String(which)))).toEqual([])
    }),
    { numRuns: 12, endOnFailure: true }
  )
  expect(parkings).toBeGreaterThan(100)
})
