import { NodeServices } from "@effect/platform-node"
import { type Context, Effect, Layer, Logger, Metric, SubscriptionRef } from "effect"
import { EventEmitter } from "node:events"
import { join } from "node:path"
import { bridge } from "../../src/bridge/bridge.ts"
import { Dispatch } from "../../src/bridge/dispatch.ts"
import type { Health, Seen } from "../../src/bridge/waits.ts"
import { Journeys } from "../../src/bridge/journeys.ts"
import { Replay } from "../../src/bridge/replay.ts"
import { Journal } from "../../src/journal/journal.ts"
import { Portal } from "../../src/portal/client.ts"
import { Connection, Dial, type Link } from "../../src/queue/connection.ts"
import { Intake } from "../../src/queue/intake.ts"
import { Outlet } from "../../src/queue/outlet.ts"
import { Parked } from "../../src/queue/parked.ts"
import { RejectedQueue } from "../../src/queue/rejected.ts"
import { Topology } from "../../src/queue/topology.ts"
import { Settings } from "../../src/settings.ts"
import { prometheus } from "../../src/watch/metrics.ts"
import { temporaryFolder } from "../rig/child.ts"

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const line = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/

/** What an exposition in Prometheus' text format says; throws where a line is none. */
export const samplesOf = (text: string): ReadonlyArray<Sample> =>
  text
    .split("\n")
    .filter((row) => row !== "" && !row.startsWith("#"))
    .map((row) => {
      const [, name, labels = "", value = ""] = line.exec(row) ?? []
      if (name === undefined) throw new Error(`not a sample: ${row}`)
      return {
        name,
        labels: Object.fromEntries(
          [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = "", word = ""]) => [key, word])
        ),
        value: Number(value.replace("Inf", "Infinity"))
      }
    })

/** What tells a series from all others. */
export const seriesOf = (samples: ReadonlyArray<Sample>) =>
  samples.map(({ name, labels }) => `${name} ${JSON.stringify(labels)}`).toSorted()

/** The sum over the series of a name that have these labels. */
export const sumOf = (samples: ReadonlyArray<Sample>, name: string, labels: Sample["labels"] = {}) =>
  samples
    .filter((one) => one.name === name && Object.entries(labels).every(([key, word]) => one.labels[key] === word))
    .reduce((sum, { value }) => sum + value, 0)

const queue = Layer.mergeAll(Intake.layer, Outlet.layer, Parked.layer, RejectedQueue.layer).pipe(
  Layer.provideMerge(Topology.layer),
  Layer.provideMerge(Connection.layer)
)
const engine = Layer.mergeAll(Dispatch.layer, Journeys.layer, Replay.layer).pipe(
  Layer.provideMerge(queue),
  Layer.provideMerge(Layer.mergeAll(Portal.layer, Journal.layer)),
  Layer.provideMerge(Dial.layer)
)

/** Runs the bridge in this process beside `work`, which is given what a scrape gives, on a registry of its own. */
export const withBridge = <A, E, R>(
  env: Readonly<Record<string, string>>,
  work: (scrape: Effect.Effect<string>) => Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const journal = join(yield* temporaryFolder("journal"), "journal.db")
    const settings = Settings.layerOf({ B24RMQ_JOURNAL: journal, ...env }).pipe(Layer.provide(NodeServices.layer))
    const played = Effect.gen(function* () {
      const context = yield* Effect.context<Effect.Services<typeof prometheus>>()
      return yield* work(Effect.provide(prometheus, context))
    })
    return yield* Effect.raceFirst(played, Effect.andThen(bridge, Effect.never)).pipe(
      Effect.scoped,
      Effect.provide(Layer.provideMerge(engine, settings))
    )
  }).pipe(Effect.provide(Logger.layer([])), Effect.provideService(Metric.MetricRegistry, new Map()))

/** A broker that knows every queue, and that each is empty. */
const emptyQueues = {
  createChannel: async () =>
    Object.assign(new EventEmitter(), {
      checkQueue: async (queue: string) => ({ queue, messageCount: 0, consumerCount: 0 }),
      close: async () => undefined
    })
}

const nothing = SubscriptionRef.make<string | undefined>(undefined)

/** As much of a service as is looked at. */
const part = <I, S>(service: Context.Service<I, S>, looked: Partial<S>) => Layer.succeed(service, looked as S)

/** What a scrape gives of a bridge that has nothing to do: every series that there is, and no broker is needed for it. */
export const idle: Effect.Effect<string> = Effect.gen(function* () {
  const link = { model: emptyQueues, lost: Effect.never, isLost: () => false } as unknown as Link
  const services = Layer.mergeAll(
    part(Settings, { ampqIn: ["in"], ampqOut: "out" }),
    part(Connection, { link: yield* SubscriptionRef.make<Link | undefined>(link), blocked: yield* nothing }),
    part(Intake, { consuming: yield* SubscriptionRef.make(true) }),
    part(Outlet, { closed: yield* nothing }),
    part(Parked, { held: Effect.succeed(0) }),
    part(Dispatch, {
      health: yield* SubscriptionRef.make<Health>("well"),
      seen: Effect.succeed({ calls: 0, waiting: new Map() } as unknown as Seen)
    }),
    Journal.layerMemory
  )
  return yield* Effect.provide(prometheus, services)
}).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
