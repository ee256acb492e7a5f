import { type Duration, Effect, Schedule, Scope } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { type Bridge, startBridge } from "../../test/rig/bridge.ts"
import { temporaryFolder } from "../../test/rig/child.ts"
import { type Answers, collector, declareQueues, type Message, publishAll } from "../../test/rig/producer.ts"
import { startProxy } from "../../test/rig/proxy.ts"
import type { SharedNode } from "../../test/rig/rabbit.ts"
import { check, type Verdict } from "../faults/checker.ts"
import { type Case, defineOwn, executionKey, mixed } from "../faults/load.ts"
import { type Random, randomOf } from "../faults/random.ts"
import { quantile } from "../limits/witness.ts"

const queueIn = "bitrix24in"
const queueOut = "bitrix24out"

/** How long the parts of a round take, in milliseconds, and how many requests come in a second. */
export interface Pace {
  /** Load and faults together. */
  readonly faults: number
  /** Load alone: the latency is measured here. */
  readonly calm: number
  /** Neither: memory and handles are measured here. */
  readonly idle: number
  readonly rate: number
}

/** What a bridge looks like from outside at a moment. */
export interface Sample {
  readonly hour: number
  readonly rss: number
  readonly handles: number
  readonly cpu: number
}

/** What became of a round. */
export interface Round {
  readonly station: string
  readonly round: number
  readonly hour: number
  readonly faults: ReadonlyArray<string>
  /** The least of the round, in bytes. */
  readonly rss: number
  /** Open at rest. */
  readonly handles: number
  /** Milliseconds from publishing to the answer, while nothing was broken. */
  readonly p50: number
  readonly p99: number
  readonly attempted: number
  readonly lost: ReadonlyArray<string>
  /** Promises that were broken otherwise. */
  readonly wrong: ReadonlyArray<string>
  /** Answered more than once, which a lost confirm is enough for. */
  readonly twice: number
  readonly unknown: number
}

type Breaking = "link cut" | "link reset" | "portal 502" | "portal resets" | "portal refuses" | "restart"

const wrongs = (verdict: Verdict) =>
  (["late", "wrong", "contradicting", "unknownNeedlessly"] as const).flatMap((promise) =>
    verdict[promise].map((id) => `${promise} ${id}`)
  )

/**
 * One bridge, its portal and its vhost, which go through rounds of load, faults, load without faults, and rest. One that
 * is never started again shows what a process gathers; another is stopped (SIGTERM) and started again and again.
 */
export const openStation = Effect.fnUntraced(function* (
  node: SharedNode,
  name: string,
  options: { readonly restarts: boolean; readonly seed: number; readonly pace: Pace; readonly begun: number }
) {
  const { restarts, pace, begun } = options
  const random: Random = randomOf(options.seed)
  const broker = yield* node.vhost()
  const portal = yield* openPortal({ keep: 5_000_000, latency: 20, key: executionKey })
  defineOwn(portal)
  yield* declareQueues(broker.url, { in: queueIn, out: queueOut })
  const link = yield* startProxy(broker.url)
  const door = yield* startProxy(portal.url)
  const folder = yield* temporaryFolder("journal")
  const start = startBridge({
    env: { AMPQURL: link.url, B24REST: door.url, B24RMQ_PORTAL_LIMIT: "2", STATE_DIRECTORY: folder },
    within: "60 seconds"
  })
  let bridge: Bridge = yield* start
  let samples: Array<Sample> = []
  const hour = () => (performance.now() - begun) / 3_600_000

  const look = Effect.sync(() => {
    // One that is being started again has no size yet.
    if (bridge.ended() !== undefined) return
    samples.push({ hour: hour(), rss: bridge.rss(), handles: bridge.descriptors(), cpu: bridge.cpu() })
  })
  yield* Effect.forkScoped(Effect.repeat(look, Schedule.spaced("1 second")))

  const scope = yield* Effect.scope
  const restart = Effect.gen(function* () {
    yield* bridge.kill("SIGTERM")
    yield* bridge.exited
    bridge = yield* Scope.provide(start, scope)
  })

  /** For a while the portal is not what it should be. */
  const portalFor = (ms: number, fault: Parameters<typeof portal.fault>[0]) =>
    Effect.acquireUseRelease(
      Effect.sync(() => portal.fault(fault)),
      () => Effect.sleep(ms),
      (over) => Effect.sync(over)
    )

  const breaks: Readonly<Record<Breaking, Effect.Effect<unknown, unknown>>> = {
    "link cut": link.cut,
    "link reset": Effect.suspend(() =>
      Effect.andThen(link.resetAfter(300 + random.below(6_000), random.below(2) === 0 ? "up" : "down"), link.cut)
    ),
    "portal 502": Effect.suspend(() =>
      portalFor(pace.faults / 10, {
        kind: "html",
        status: 502,
        when: { probability: 0.3 + random.below(70) / 100, seed: random.below(1_000_000) }
      })
    ),
    "portal resets": Effect.suspend(() =>
      portalFor(pace.faults / 10, {
        kind: "reset",
        executed: true,
        when: { probability: 0.2, seed: random.below(1_000_000) }
      })
    ),
    "portal refuses": Effect.acquireUseRelease(
      Effect.andThen(door.refuse("closed"), door.cut),
      () => Effect.sleep(pace.faults / 20),
      () => Effect.ignore(door.refuse(false))
    ),
    restart
  }
  const ways = (Object.keys(breaks) as ReadonlyArray<Breaking>).filter((way) => restarts || way !== "restart")

  /** Faults at random moments, one after the other. */
  const breakThings = Effect.gen(function* () {
    const broken: Array<Breaking> = restarts ? ["restart"] : []
    while (broken.length < 3) broken.push(ways[random.below(ways.length)] ?? "link cut")
    for (const way of random.shuffled(broken)) {
      yield* Effect.sleep(random.below(pace.faults / 4))
      yield* Effect.ignore(breaks[way], { log: true })
    }
    return broken
  })

  const publish = (cases: ReadonlyArray<Case>, sent: (message: Message) => void) =>
    publishAll(
      broker.url,
      queueIn,
      cases.map(({ message }) => message),
      { rate: pace.rate, sent, within: "10 minutes" }
    )

  const loadFor = (round: string, ms: number) => mixed(portal, round, Math.ceil((pace.rate * ms) / 1_000), random)

  const latencies = (answers: Answers, sent: ReadonlyMap<string, number>) =>
    Array.from(sent, ([id, at]) => (answers.get(id)?.[0]?.at ?? Number.NaN) - at)

  /** One round; `breakMore` breaks what both stations stand on. */
  const round = (number: number, breakMore: Effect.Effect<ReadonlyArray<string>, unknown>) =>
    Effect.gen(function* () {
      samples = []
      const answers = yield* collector(broker.url, queueOut)
      const rough = loadFor(`${name}.${number}`, pace.faults)
      const answered = (count: number, within: Duration.Input = "3 minutes") =>
        Effect.ignore(answers.has(count, within))
      const [, own, common] = yield* Effect.all(
        [publish(rough, () => undefined), breakThings, Effect.orElseSucceed(breakMore, () => ["the broker failed"])],
        { concurrency: "unbounded" }
      )
      yield* answered(rough.length)
      const calm = loadFor(`${name}.${number}.calm`, pace.calm)
      const sent = new Map<string, number>()
      yield* publish(calm, ({ id = "" }) => sent.set(id, performance.now()))
      yield* answered(rough.length + calm.length)
      yield* Effect.sleep(pace.idle)
      yield* look
      const cases = [...rough, ...calm]
      const verdict = check(cases, answers.answers, portal)
      const times = latencies(answers.answers, sent)
      const ended = bridge.ended()
      const defects = bridge.lines().filter(({ event }) => event === "broken")
      const done: Round = {
        station: name,
        round: number,
        hour: hour(),
        faults: [...own, ...common],
        rss: Math.min(...samples.map(({ rss }) => rss)),
        handles: samples.at(-1)?.handles ?? Number.NaN,
        p50: quantile(times, 0.5),
        p99: quantile(times, 0.99),
        attempted: cases.length,
        lost: verdict.lost,
        wrong: [
          ...wrongs(verdict),
          ...(ended === undefined ? [] : [`the bridge ended: ${bridge.output().slice(-500)}`]),
          ...defects.map(({ text }) => text)
        ],
        twice: verdict.duplicated.length,
        unknown: verdict.unknown.length
      }
      return { done, samples }
    }).pipe(Effect.scoped)

  /** Writes that do not converge and ran more than once, in the whole run. */
  const doubled = () =>
    portal
      .doubles()
      .filter(({ method }) => !/\.(?:update|delete)$/.test(method))
      .map(({ method, key }) => `${method} ${key}`)

  return { round, doubled, uncounted: () => portal.uncounted }
})
