import { Effect } from "effect"
import { live } from "../effect.ts"
import { victim } from "../rig/rabbit.ts"
import { scale, underLoad } from "./load.ts"

const minutes = 60_000

live(
  "the broker is killed and started again",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      yield* underLoad("kill -9", yield* node.vhost(), {}, (load) =>
        Effect.gen(function* () {
          for (let round = 0; round < 2 * scale; round++) {
            yield* load.interrupted(Effect.andThen(node.kill9, node.start))
            yield* load.answered(100)
          }
        })
      )
    }),
  2 * minutes * scale
)

live(
  "the broker is stopped and started in good order",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      yield* underLoad("stop_app, start_app", yield* node.vhost(), {}, (load) =>
        Effect.gen(function* () {
          for (let round = 0; round < scale; round++) {
            yield* load.interrupted(Effect.andThen(node.stopApp, node.startApp))
            yield* load.answered(100)
          }
        })
      )
    }),
  2 * minutes * scale
)

live(
  "every connection is closed each second",
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      yield* underLoad("close_all_connections", yield* node.vhost(), {}, (load) =>
        Effect.gen(function* () {
          for (let round = 0; round < 5 * scale; round++) {
            yield* load.interrupted(node.closeAllConnections)
            yield* Effect.sleep("1 second")
          }
        })
      )
    }),
  2 * minutes * scale
)
