import { expect, test } from "bun:test"
import { Deferred, Duration, Effect, Layer, MutableRef, Redacted, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import fc from "fast-check"
import { Dispatch } from "../../src/bridge/dispatch.ts"
import { Tally } from "../../src/bridge/tally.ts"
import { Journal } from "../../src/journal/journal.ts"
import { Portal } from "../../src/portal/client.ts"
import { Done, judge } from "../../src/portal/outcome.ts"
import { Outlet } from "../../src/queue/outlet.ts"
import { type Live, type Rate, Settings } from "../../src/settings.ts"
import { estimate, type Outlook, outlookOf } from "../../src/watch/estimate.ts"
import { effect } from "../effect.ts"

const cloud: Outlook = {
  left: 1_000,
  underWay: 0,
  perCall: 1,
  rate: { room: 48, perSecond: 2, pause: 0 },
  concurrency: 16,
  callTakes: 0.1,
  pace: undefined,
  methods: []
}

test("what is scarcest decides when the backlog is through", () => {
  expect(estimate({ ...cloud, left: 0 })).toBe(0)
  // 1,000 calls of which 48 go at once, and two a second after that.
  expect(estimate(cloud)).toBeCloseTo(476.1)
  expect(estimate({ ...cloud, perCall: 50 })).toBeCloseTo(0.225)
  expect(estimate({ ...cloud, left: 5_000, perCall: 50 })).toBeCloseTo(26.1)
  // What is under way has been let in.
  expect(estimate({ ...cloud, underWay: 800, left: 1_000, perCall: 2 })).toBeCloseTo(26.1)
  expect(estimate({ ...cloud, rate: { room: 48, perSecond: 2, pause: 30 } })).toBeCloseTo(506.1)
  // Slow calls: sixteen at a time.
  expect(estimate({ ...cloud, callTakes: 30 })).toBeCloseTo(1_905)
  // Without a rate it is what was done lately that tells.
  const unlimited = { ...cloud, rate: { room: Infinity, perSecond: Infinity, pause: 0 } }
  expect(estimate({ ...unlimited, pace: 20 })).toBeCloseTo(50.1)
  expect(estimate(unlimited)).toBeCloseTo(6.35)
  expect(estimate({ ...unlimited, callTakes: undefined })).toBe(0)
  // Half of them take a second each of operating time, of which 0.8 s come free in a second.
  const method = { share: 0.5, cost: 1, seconds: 100, perSecond: 0.8, closed: 0 }
  expect(estimate({ ...unlimited, methods: [method] })).toBeCloseTo(500.1)
  expect(estimate({ ...unlimited, left: 4, methods: [{ ...method, closed: 60 }] })).toBeCloseTo(60.1)
})

test("more to do never ends sooner, and more room never later", () => {
  const positive = (max: number) => fc.double({ min: 0.001, max, noNaN: true })
  const outlook = fc.record({
    left: fc.nat(100_000),
    underWay: fc.nat(500),
    perCall: fc.double({ min: 1, max: 50, noNaN: true }),
    rate: fc.record({
      room: fc.oneof(fc.nat(300), fc.constant(Infinity)),
      perSecond: fc.oneof(positive(10), fc.constant(Infinity)),
      pause: fc.nat(30)
    }),
    concurrency: fc.integer({ min: 1, max: 64 }),
    callTakes: fc.option(positive(70), { nil: undefined }),
    pace: fc.option(positive(1_000), { nil: undefined }),
    methods: fc.array(
      fc.record({
        share: positive(1),
        cost: positive(60),
        seconds: positive(480),
        perSecond: positive(1),
        closed: fc.nat(600)
      }),
      { maxLength: 3 }
    )
  })
  fc.assert(
    fc.property(outlook, fc.nat(1_000), (some, more) => {
      const seconds = estimate(some)
      expect(seconds).toBeGreaterThanOrEqual(0)
      expect(seconds).toBeFinite()
      expect(estimate({ ...some, left: some.left + more })).toBeGreaterThanOrEqual(seconds)
      expect(estimate({ ...some, rate: { ...some.rate, room: some.rate.room + more } })).toBeLessThanOrEqual(seconds)
    })
  )
})

interface Run {
  readonly requests: number
  readonly rate: Rate
  readonly pack: Live["pack"]
  /** Milliseconds of a call and of each command in a batch. */
  readonly takes: number
  readonly methods: (n: number) => string
}

/** Seconds from the start, what was estimated then, and when all was over. */
const run = ({ requests, rate, pack, takes, methods }: Run) =>
  Effect.gen(function* () {
    const outlet = yield* SubscriptionRef.make<string | undefined>(undefined)
    const live = MutableRef.make<Live>({ rate, concurrency: 16, pack, logLevel: "info" })
    const settings = {
      live,
      rate,
      b24Rest: new URL("https://box.example/rest/"),
      portalLimit: Duration.seconds(60)
    } as unknown as Settings["Service"]
    const done = Done({ status: 200, body: Buffer.from("{}"), time: undefined })
    const portal = Layer.mock(Portal, {
      call: ({ method, body }) => {
        if (method !== "batch") return Effect.delay(Effect.succeed(done), takes)
        const commands: ReadonlyArray<string> = Object.values(JSON.parse(Buffer.from(body).toString("utf8")).cmd)
        const result = Object.fromEntries(commands.map((command, n) => [`m${n}`, command]))
        const rest = { result_error: [], result_total: [], result_next: [], result_time: {} }
        const text = JSON.stringify({ result: { result, ...rest } })
        return Effect.delay(Effect.succeed(judge(200, Buffer.from(text))), takes * commands.length)
      }
    })
    const told: Array<{ readonly at: number; readonly seconds: number }> = []
    let left = requests
    const played = Effect.gen(function* () {
      const dispatch = yield* Dispatch
      const tally = yield* Tally
      yield* Effect.forkScoped(dispatch.run)
      const ask = (n: number) => {
        tally.begun()
        return dispatch
          .ask({
            request: {
              id: String(n),
              messageId: String(n),
              correlationId: undefined,
              method: methods(n),
              user: "1",
              token: Redacted.make("secret"),
              credential: "1#abc",
              body: Buffer.from(`{"id":${n}}`),
              parameters: {},
              order: undefined
            },
            isRead: !methods(n).endsWith(".add"),
            queue: "in",
            place: undefined,
            mayRest: () => false,
            crowds: () => false,
            deadline: undefined,
            most: 50,
            isLost: () => false
          })
          .pipe(
            Effect.map(() => {
              left--
              tally.answered("done", 0)
              tally.ended()
            })
          )
      }
      const over = yield* Deferred.make<void>()
      yield* Effect.forEach(
        Array.from({ length: requests }, (_, n) => n),
        ask,
        { concurrency: 1_000, discard: true }
      ).pipe(Effect.andThen(Deferred.succeed(over, undefined)), Effect.forkChild)
      let at = 0
      while (!(yield* Deferred.isDone(over))) {
        yield* TestClock.adjust("100 millis")
        at += 0.1
        const seconds = estimate(outlookOf(yield* dispatch.seen, yield* tally.done, left))
        if (left > 0) told.push({ at, seconds })
      }
      return { told, end: at }
    })
    return yield* played.pipe(
      Effect.provide(
        Dispatch.layer.pipe(
          Layer.provide(portal),
          Layer.provide(Journal.layerMemory),
          Layer.provide(Layer.mock(Outlet, { closed: outlet })),
          Layer.provide(Layer.succeed(Settings, settings))
        )
      )
    )
  })

const list = (n: number) => ["crm.deal.list", "crm.deal.get", "user.get"][n % 3] ?? ""
const mixed = (n: number) => (n % 10 === 0 ? "crm.lead.add" : list(n))

const runs: Readonly<Record<string, Run>> = {
  "5,000 reads packed under cloud limits": {
    requests: 5_000,
    rate: { rate: 2, depth: 50 },
    pack: "reads",
    takes: 5,
    methods: list
  },
  "1,000 reads and writes under cloud limits": {
    requests: 1_000,
    rate: { rate: 2, depth: 50 },
    pack: "reads",
    takes: 20,
    methods: mixed
  },
  "400 alone under Enterprise limits": {
    requests: 400,
    rate: { rate: 5, depth: 250 },
    pack: "off",
    takes: 100,
    methods: list
  },
  "2,000 without a limit": { requests: 2_000, rate: "off", pack: "off", takes: 200, methods: list }
}

for (const [name, options] of Object.entries(runs)) {
  effect(`${name}: nine of ten estimates are right within a fifth`, () =>
    Effect.gen(function* () {
      const { told, end } = yield* run(options)
      const wrong = told.filter(({ at, seconds }) => Math.abs(seconds - (end - at)) > 0.2 * (end - at) + 0.1)
      expect(wrong.length / told.length).toBeLessThanOrEqual(0.1)
      expect(told.length).toBeGreaterThan(50)
    })
  )
}
