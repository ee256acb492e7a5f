import { Context, type Duration, Effect } from "effect"
import { openPortal, type PortalOptions } from "../../src/sandbox/portal/server.ts"
import { type Bridge, startBridge } from "../../test/rig/bridge.ts"
import { temporaryFolder } from "../../test/rig/child.ts"
import { collector, declareQueues, publishAll, type Publishing } from "../../test/rig/producer.ts"
import { startProxy } from "../../test/rig/proxy.ts"
import type { SharedNode } from "../../test/rig/rabbit.ts"
import { type RigFailed, until } from "../../test/rig/until.ts"
import { check } from "./checker.ts"
import { type Case, defineOwn, executionKey } from "./load.ts"
import type { Report } from "./report.ts"

export const queueIn = "bitrix24in"
export const queueOut = "bitrix24out"

/** Inside, the portal is taken to end every call within so many seconds. */
export const portalLimit = 2

/** The command line of the bridge under test, where it is another one than ours. */
export const OtherBridge = Context.Reference<readonly [string, ...ReadonlyArray<string>] | undefined>(
  "bench/OtherBridge",
  { defaultValue: () => undefined }
)

interface StageOptions extends PortalOptions {
  /** More settings of the bridge. */
  readonly env?: Readonly<Record<string, string>>
  /** The portal is called under `/rest/api/`. */
  readonly third?: boolean
}

/**
 * A simulated portal, a vhost of a real RabbitMQ, and a bridge between them that can be killed; a proxy on each of its
 * two ways. Whoever publishes and reads the answers goes to the broker directly.
 */
export const stage = Effect.fnUntraced(function* (
  node: SharedNode,
  { env, third = false, ...options }: StageOptions = {}
) {
  const other = yield* OtherBridge
  const broker = yield* node.vhost()
  const portal = yield* openPortal({ keep: 200_000, latency: 20, key: executionKey, ...options })
  defineOwn(portal)
  yield* declareQueues(broker.url, { in: queueIn, out: queueOut })
  const answers = yield* collector(broker.url, queueOut)
  const link = yield* startProxy(broker.url)
  const door = yield* startProxy(third ? new URL("api/", portal.url).href : portal.url)
  const folder = yield* temporaryFolder("journal")
  const cases: Array<Case> = []
  let acknowledged = 0
  let consumedAfter = 0
  let answeredAfter = 0
  const bridges: Array<Bridge> = []

  /** Keeps how long it takes until a bridge consumes again. */
  const again = <A, E, R>(consuming: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      const begun = performance.now()
      return Effect.tap(consuming, () =>
        Effect.sync(() => (consumedAfter = Math.max(consumedAfter, performance.now() - begun)))
      )
    })

  /** Ours says that it consumes; of another one the broker knows. */
  const consuming = (bridge: Bridge, mark = 0): Effect.Effect<unknown, RigFailed> =>
    other === undefined
      ? bridge.consuming({ after: mark, within: "60 seconds" })
      : until(
          "the bridge consumes",
          Effect.map(broker.queueDepth(queueIn), ({ consumers }) => consumers > 0),
          { within: "60 seconds" }
        )

  /** Starts a bridge, with the journal that the one before it had. Does not wait until it consumes. */
  const launch = startBridge({
    env: {
      AMPQURL: link.url,
      B24REST: door.url,
      B24RMQ_PORTAL_LIMIT: `${portalLimit}`,
      B24RMQ_CONCURRENCY: "4",
      HOME: folder,
      STATE_DIRECTORY: folder,
      ...env
    },
    ready: false,
    ...(other === undefined ? {} : { program: other, cwd: process.cwd() })
  }).pipe(Effect.tap((started) => Effect.sync(() => bridges.push(started))))

  const start = again(Effect.tap(launch, (bridge) => consuming(bridge)))

  const publish = Effect.fnUntraced(function* (some: ReadonlyArray<Case>, options: Publishing = {}) {
    cases.push(...some)
    const messages = some.map(({ message }) => message)
    acknowledged += (yield* publishAll(broker.url, queueIn, messages, options)).confirmed
  })

  const leftIn = (queue: string) => Effect.map(broker.queueDepth(queue), ({ ready, unacked }) => ready + unacked)

  /** The broker has nothing left to be taken, and nothing is parked. Other bridges have no queue for that. */
  const isEmpty = Effect.gen(function* () {
    const parked = yield* Effect.orElseSucceed(leftIn(`${queueIn}.parked`), () => 0)
    return (yield* leftIn(queueIn)) + parked === 0
  }).pipe(Effect.orElseSucceed(() => false))

  /** Nothing is left, and no answer has come for a while. */
  const isOver = Effect.gen(function* () {
    yield* answers.quietFor(1_000)
    return yield* isEmpty
  })

  /** Waits until all that was published is answered, or nothing comes any more: then it is lost, and the report says so. */
  const answered = (within: Duration.Input = "60 seconds") =>
    Effect.suspend(() => {
      const begun = performance.now()
      return answers.has(cases.length, within).pipe(
        Effect.raceFirst(until("it is over", isOver, { within, every: "1 second" })),
        Effect.ignore,
        Effect.tap(() => Effect.sync(() => (answeredAfter = Math.max(answeredAfter, performance.now() - begun))))
      )
    })

  /** Waits until nothing is under way any more, and looks at everything that has happened. */
  const report = Effect.fnUntraced(function* (of: Pick<Report, "experiment" | "run" | "rounds" | "seed">) {
    yield* Effect.ignore(until("everything is acknowledged", isEmpty))
    yield* answers.quietFor(300)
    const verdict = check(cases, answers.answers, portal)
    const ended = bridges.filter((bridge) => {
      const end = bridge.ended()
      return end !== undefined && end.signal !== "SIGKILL"
    })
    const defects = bridges.flatMap((bridge) => bridge.lines().filter(({ event }) => event === "broken"))
    const more = [
      ...ended.map((bridge) => `a bridge ended: ${bridge.output().slice(-1_000)}`),
      ...(defects.length === 0 ? [] : [`defects: ${defects[0]?.text}`])
    ]
    return { ...of, acknowledged, verdict, consumedAfter, answeredAfter, more } satisfies Report
  })

  return {
    broker,
    portal,
    answers,
    link,
    door,
    folder,
    cases,
    launch,
    start,
    consuming,
    again,
    publish,
    answered,
    report
  }
})

export type Stage = Effect.Success<ReturnType<typeof stage>>
