import { Effect, Fiber } from "effect"
import { startBridge } from "../../test/rig/bridge.ts"
import { declareQueues } from "../../test/rig/producer.ts"
import { victim, vhost } from "../../test/rig/rabbit.ts"
import { queueIn, queueOut } from "./stand.ts"

// Nobody listens there: none of this needs a portal.
const noPortal = "http://127.0.0.1:9/rest/"

/** Milliseconds from the start of the process until it consumes. */
export const startUp = Effect.gen(function* () {
  const broker = yield* vhost
  yield* declareQueues(broker.url, { in: queueIn, out: queueOut })
  const began = performance.now()
  yield* startBridge({ env: { AMPQURL: broker.url, B24REST: noPortal } })
  return performance.now() - began
}).pipe(Effect.scoped)

/** Milliseconds from the moment a killed broker answers again until the bridge consumes, after outages of so many seconds. */
export const comesBack = (outages: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const node = yield* victim
    const broker = yield* node.vhost()
    yield* declareQueues(broker.url, { in: queueIn, out: queueOut })
    const bridge = yield* startBridge({ env: { AMPQURL: broker.url, B24REST: noPortal } })
    const times: Array<number> = []
    for (const seconds of outages) {
      const mark = bridge.mark()
      yield* node.kill9
      yield* Effect.sleep(seconds * 1_000)
      const consumes = yield* Effect.forkScoped(
        Effect.map(bridge.consuming({ after: mark, within: "2 minutes" }), () => performance.now())
      )
      yield* node.start
      const ready = performance.now()
      // It may be quicker than whoever looks whether the broker is ready.
      times.push(Math.max(0, (yield* Fiber.join(consumes)) - ready))
    }
    return times
  }).pipe(Effect.scoped)
