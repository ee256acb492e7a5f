import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect, Layer, Stream } from "effect"
import { bridge } from "../../src/bridge/bridge.ts"
import { Dispatch } from "../../src/bridge/dispatch.ts"
import { Replay } from "../../src/bridge/replay.ts"
import { Journeys } from "../../src/bridge/journeys.ts"
import { Journal } from "../../src/journal/journal.ts"
import { Portal } from "../../src/portal/client.ts"
import { Connection, Dial } from "../../src/queue/connection.ts"
import type { Delivery } from "../../src/queue/held.ts"
import { Intake } from "../../src/queue/intake.ts"
import { Outlet } from "../../src/queue/outlet.ts"
import { Parked } from "../../src/queue/parked.ts"
import { RejectedQueue } from "../../src/queue/rejected.ts"
import { Topology } from "../../src/queue/topology.ts"
import { Settings } from "../../src/settings.ts"
import { announce } from "../../src/watch/announce.ts"
import { layerLog } from "../../src/watch/log.ts"
import { Overview } from "../../src/watch/overview.ts"
import { Progress } from "../../src/watch/progress.ts"
import { Systemd } from "../../src/watch/systemd.ts"

/** An intake of which some deliveries never reach the bridge. */
const swallowing = (isSwallowed: (delivery: Delivery) => boolean) =>
  Layer.effect(
    Intake,
    Effect.map(Intake, (intake) => ({
      ...intake,
      deliveries: Stream.filter(intake.deliveries, (delivery) => !isSwallowed(delivery))
    }))
  ).pipe(Layer.provide(Intake.layer))

/** The bridge with its watch, whose bounds are `scale` times as long. */
export const stalling = (isSwallowed: (delivery: Delivery) => boolean, scale: number) => {
  const queue = Layer.mergeAll(swallowing(isSwallowed), Outlet.layer, Parked.layer, RejectedQueue.layer).pipe(
    Layer.provideMerge(Topology.layer),
    Layer.provideMerge(Connection.layer)
  )
  const engine = Layer.mergeAll(Dispatch.layer, Journeys.layer, Replay.layer).pipe(
    Layer.provideMerge(queue),
    Layer.provideMerge(Layer.mergeAll(Portal.layer, Journal.layerMemory))
  )
  const watched = Overview.layer.pipe(
    Layer.provideMerge(Progress.layerWith(scale)),
    Layer.provideMerge(Layer.mergeAll(engine, Systemd.layer))
  )
  return Effect.gen(function* () {
    const progress = yield* Progress
    return yield* Effect.raceAllFirst([bridge, announce, progress.run])
  }).pipe(Effect.scoped, Effect.provide(watched))
}

// As a program: every request that it is brought is lost, on each channel.
if (import.meta.main) {
  const scale = Number(process.argv[2])
  NodeRuntime.runMain(
    stalling(() => true, scale).pipe(
      Effect.provide(Layer.mergeAll(layerLog, Dial.layer)),
      Effect.provide(Settings.layer),
      Effect.provide(NodeServices.layer)
    )
  )
}
