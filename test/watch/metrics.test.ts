import { expect } from "bun:test"
import { Duration, Effect, Layer, Metric, MutableRef, Queue, Redacted, SubscriptionRef } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { TestClock } from "effect/testing"
import { Dispatch } from "../../src/bridge/dispatch.ts"
import { Journal } from "../../src/journal/journal.ts"
import { Portal } from "../../src/portal/client.ts"
import { Done, Limited, type Outcome, Refused, Unavailable } from "../../src/portal/outcome.ts"
import { Outlet } from "../../src/queue/outlet.ts"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { type Live, Settings } from "../../src/settings.ts"
import { effect, live } from "../effect.ts"
import { run } from "../rig/child.ts"
import {
  type Asked,
  checkAnswers,
  collector,
  declareQueues,
  publishAll,
  queueRequest,
  requests
} from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import { type Sample, samplesOf, seriesOf, sumOf, withBridge } from "./exposition.ts"

/** 100000 is the full form. */
const count = Number(process.env["B24RMQ_METRICS_REQUESTS"] ?? 5_000)

const word = () => crypto.randomUUID().replaceAll("-", "")

/** Whatever a producer may choose is chosen at random; some are wrong on purpose. */
const anything = (index: number): Asked => {
  if (index % 100 === 0) return { headers: { method: undefined } }
  if (index % 8 > 0) return { method: "crm.deal.list", params: { filter: { TITLE: word() } } }
  const webhook = index % 16 === 8 ? { user: `${index}`, token: `secret${word()}` } : {}
  return { method: `own.${word()}`, headers: { order: word() }, ...webhook }
}

live(
  "what is told after real work is true, promtool takes it, and no series is new",
  () =>
    Effect.gen(function* () {
      const { url } = yield* vhost
      const portal = yield* openPortal({ keep: 1_000 })
      yield* declareQueues(url, { in: "bitrix24in", out: "bitrix24out" })
      const answers = yield* collector(url, "bitrix24out")
      const env = { AMPQURL: url, B24REST: portal.url, B24RMQ_PORTAL_LIMIT: "1" }
      yield* withBridge(env, (scrape) =>
        Effect.gen(function* () {
          const told = Effect.map(scrape, samplesOf)
          const before = yield* until(
            "it consumes",
            Effect.map(told, (samples) => sumOf(samples, "b24rmq_consuming") === 1 && samples)
          )
          const lost = word()
          portal.credential("1/revoked", "revoked")
          portal.fault({ kind: "reset", executed: true, when: { containing: lost, next: 1 } })
          const load = [...requests(count, anything), ...requests(1, () => ({ method: "profile", token: "revoked" }))]
          yield* publishAll(url, "bitrix24in", load)
          yield* answers.has(load.length, "5 minutes")
          // Not beside the others: the question for what is in doubt would be in a batch with them.
          const doubtful = queueRequest({
            method: "crm.deal.add",
            params: { fields: { TITLE: lost, ORIGIN_ID: lost } }
          })
          const sent = [...load, doubtful]
          yield* publishAll(url, "bitrix24in", [doubtful])
          const got = yield* answers.has(sent.length)
          // Once more what was answered: a write, for reads are not remembered.
          yield* publishAll(url, "bitrix24in", [doubtful])
          yield* until(
            "it is answered again",
            Effect.sync(() => answers.received() > sent.length)
          )
          const text = yield* until(
            "all of it is counted",
            Effect.map(scrape, (text) => sumOf(samplesOf(text), "b24rmq_answers_total") === sent.length + 1 && text)
          )
          const after = samplesOf(text)
          const all = [...got.values()].flat()
          const outcomes = checkAnswers(sent, got).byOutcome
          for (const outcome of ["done", "refused", "rejected", "unknown"])
            expect([outcome, sumOf(after, "b24rmq_answers_total", { outcome })]).toEqual([
              outcome,
              outcomes[outcome] ?? 0
            ])
          expect(sumOf(after, "b24rmq_requests_taken_total")).toBe(sent.length + 1)
          expect(sumOf(after, "b24rmq_replays_total")).toBe(1)
          expect(sumOf(after, "b24rmq_refusals_total", { kind: "credential" })).toBe(1)
          expect(sumOf(after, "b24rmq_doubts_total")).toBe(1)
          expect(sumOf(after, "b24rmq_doubts_ended_total", { end: "found" })).toBe(1)
          expect(sumOf(after, "b24rmq_portal_requests_total")).toBe(portal.requests)
          const packed = all.filter(({ headers }) => headers["x-b24rmq-packed"] === true).length
          expect(packed).toBeGreaterThan(0)
          expect(sumOf(after, "b24rmq_batch_commands_total")).toBe(packed)
          // Each that was sent has waited once, and so has the question for what was lost.
          const wentOut = sent.length - count / 100
          expect(sumOf(after, "b24rmq_wait_duration_seconds_count")).toBe(wentOut + 1)
          expect(sumOf(after, "b24rmq_journal_commit_duration_seconds_count")).toBeGreaterThan(0)
          expect(sumOf(after, "b24rmq_link_connects_total")).toBe(1)
          for (const name of ["waiting_requests", "portal_requests_in_flight", "queue_messages", "broker_blocked"])
            expect([name, sumOf(after, `b24rmq_${name}`)]).toEqual([name, 0])
          for (const name of ["link_up", "consuming", "answers_open", "portal_up", "build_info"])
            expect([name, sumOf(after, `b24rmq_${name}`)]).toEqual([name, 1])
          expect(sumOf(after, "b24rmq_journal_state", { state: "ready" })).toBe(1)
          expect(Math.abs(sumOf(after, "process_start_time_seconds") * 1_000 - performance.timeOrigin)).toBeLessThan(1)
          expect(seriesOf(after)).toEqual(seriesOf(before))
          const checked = yield* run({
            command: "promtool",
            args: ["check", "metrics"],
            env: {},
            cwd: "/",
            input: text
          })
          expect([checked.code, checked.out, checked.err]).toEqual([0, "", ""])
        })
      )
    }),
  60_000 + count * 5
)

live("what is parked and fetched again is counted, and how much rests", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    // Ten may run, and then the method is closed for some seconds.
    const operating = { state: "on", cost: { "crm.deal.update": 0.5 }, limit: 5, bucket: 300 } as const
    const portal = yield* openPortal({ limits: { operating } })
    for (let deal = 0; deal < 30; deal++) portal.crm.table("deal").add([["TITLE", `${deal}`]])
    yield* declareQueues(url, { in: "bitrix24in", out: "bitrix24out" })
    const answers = yield* collector(url, "bitrix24out")
    yield* withBridge({ AMPQURL: url, B24REST: portal.url, B24RMQ_PREFETCH: "4" }, (scrape) =>
      Effect.gen(function* () {
        const told = Effect.map(scrape, samplesOf)
        const sent = requests(14, (deal) => ({
          method: "crm.deal.update",
          params: { id: deal + 1, fields: { TITLE: "new" } }
        }))
        yield* publishAll(url, "bitrix24in", sent)
        const counted = (samples: ReadonlyArray<Sample>) => sumOf(samples, "b24rmq_requests_parked_total")
        yield* until(
          "some rest",
          Effect.map(told, (samples) => counted(samples) > 0 && sumOf(samples, "b24rmq_parked_requests") > 0)
        )
        yield* answers.has(sent.length)
        const over = yield* until(
          "none rests",
          Effect.map(told, (samples) => sumOf(samples, "b24rmq_answers_total") === sent.length && samples)
        )
        expect(sumOf(over, "b24rmq_parked_requests")).toBe(0)
        expect(sumOf(over, "b24rmq_requests_unparked_total")).toBe(counted(over))
      })
    )
  })
)

/** Calls that take two seconds each, one at a time, and what they come to. */
const onStage = <E>(
  outcomeOf: (method: string, nth: number) => Outcome,
  play: (ask: (method: string) => Effect.Effect<unknown>, begun: Effect.Effect<unknown>) => Effect.Effect<unknown, E>
) =>
  Effect.gen(function* () {
    const counts = new Map<string, number>()
    const begun = yield* Queue.unbounded<string>()
    const portal = Layer.succeed(Portal, {
      call: ({ method }) =>
        Effect.gen(function* () {
          const nth = (counts.get(method) ?? 0) + 1
          counts.set(method, nth)
          yield* Queue.offer(begun, method)
          yield* Effect.sleep("2 seconds")
          return outcomeOf(method, nth)
        }),
      probe: Effect.succeed(done)
    })
    const settings = {
      live: MutableRef.make<Live>({ rate: "off", concurrency: 1, pack: "off", logLevel: "info" }),
      rate: "off",
      b24Rest: new URL("https://box.example/rest/"),
      portalLimit: Duration.seconds(60)
    } as unknown as Settings["Service"]
    const outlet = Layer.mock(Outlet, { closed: yield* SubscriptionRef.make<string | undefined>(undefined) })
    const played = Effect.gen(function* () {
      const dispatch = yield* Dispatch
      yield* Effect.forkScoped(dispatch.run)
      yield* play((method) => dispatch.ask(asker(method)), Queue.take(begun))
      return samplesOf(yield* PrometheusMetrics.format())
    })
    const needed = [portal, Journal.layerMemory, outlet, Layer.succeed(Settings, settings)] as const
    return yield* Effect.provide(played, Dispatch.layer.pipe(Layer.provide(Layer.mergeAll(...needed))))
  }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))

const done = Done({ status: 200, body: Buffer.from("{}"), time: undefined })

const asker = (method: string) => ({
  request: {
    id: method,
    messageId: method,
    correlationId: undefined,
    method,
    user: "1",
    token: Redacted.make("secret"),
    credential: "1#abc",
    body: Buffer.from("{}"),
    parameters: {},
    order: undefined
  },
  isRead: true,
  queue: "in",
  place: undefined,
  mayRest: () => false,
  crowds: () => false,
  deadline: undefined,
  most: 50,
  isLost: () => false
})

effect("waiting and the portal's time are summed in seconds, in buckets that hold what is below them", () =>
  Effect.gen(function* () {
    const samples = yield* onStage(
      () => done,
      (ask, begun) =>
        Effect.gen(function* () {
          yield* Effect.forEach(["a", "b", "c"], (method) => Effect.forkChild(ask(method)))
          for (let call = 0; call < 3; call++) yield* Effect.andThen(begun, TestClock.adjust("2 seconds"))
        })
    )
    const buckets = (name: string, bounds: ReadonlyArray<string>) =>
      bounds.map((le) => sumOf(samples, `${name}_bucket`, { le }))
    const wait = "b24rmq_wait_duration_seconds"
    expect([sumOf(samples, `${wait}_sum`), sumOf(samples, `${wait}_count`)]).toEqual([0 + 2 + 4, 3])
    expect(buckets(wait, ["0.005", "1", "2.5", "5", "1200", "+Inf"])).toEqual([1, 1, 2, 3, 3, 3])
    const portal = "b24rmq_portal_request_duration_seconds"
    expect([sumOf(samples, `${portal}_sum`), sumOf(samples, `${portal}_count`)]).toEqual([6, 3])
    expect(buckets(portal, ["0.01", "1", "2.5", "70", "+Inf"])).toEqual([0, 0, 3, 3, 3])
  })
)

const json = Buffer.from("{}")
const refusing: Readonly<Record<string, Outcome>> = {
  rate: Limited({ scope: "portal" }),
  operating_time: Limited({ scope: "method" }),
  credential: Refused({ status: 401, body: json, code: "expired_token", alarm: "credential" }),
  account: Unavailable({ reason: "OVERLOAD_LIMIT", alarm: "account" })
}

for (const [kind, refusal] of Object.entries(refusing))
  effect(`a refusal is counted by its kind, and the call that follows it as a retry: ${kind}`, () =>
    Effect.gen(function* () {
      const samples = yield* onStage(
        (_method, nth) => (nth === 1 ? refusal : done),
        (ask) =>
          Effect.gen(function* () {
            yield* Effect.forkChild(ask("a"))
            for (let second = 0; second < 300; second++) yield* TestClock.adjust("1 second")
          })
      )
      const kinds = Object.fromEntries(
        Object.keys(refusing).map((one) => [one, sumOf(samples, "b24rmq_refusals_total", { kind: one })])
      )
      expect(kinds).toEqual({ rate: 0, operating_time: 0, credential: 0, account: 0, [kind]: 1 })
      const again = kind === "credential" ? 0 : 1
      expect(sumOf(samples, "b24rmq_retries_total")).toBe(again)
      expect(sumOf(samples, "b24rmq_wait_duration_seconds_count")).toBe(1)
      expect(sumOf(samples, "b24rmq_portal_requests_total", { result: "done", call: "single" })).toBe(again)
    })
  )
