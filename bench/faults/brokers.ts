import { Effect, Fiber } from "effect"
import { victim } from "../../test/rig/rabbit.ts"
import type { Pack } from "./kills.ts"
import { mixed } from "./load.ts"
import { randomOf } from "./random.ts"
import { stage } from "./stage.ts"

/** What is broken in a round: the broker (-9), its link (reset after random bytes), the bridge (-9). */
export type Broken = "broker" | "link" | "both" | "all three"

/** Requests in a round, and how many are published in a second. */
const size = 80
const rate = 60

/**
 * The broker is killed and started again, its link is reset, or both, while requests are published and answered. Started
 * again, the broker brings back what was acknowledged and not yet written down.
 */
export const brokenBroker = (what: Broken, pack: Pack, rounds: number, seed: number) =>
  Effect.gen(function* () {
    const random = randomOf(seed)
    const node = yield* victim
    const { portal, link, start, publish, answered, report } = yield* stage(node, { env: { B24RMQ_PACK: pack } })
    let bridge = yield* start
    for (let round = 1; round <= rounds; round++) {
      const publishing = yield* Effect.forkScoped(publish(mixed(portal, `${round}`, size, random), { rate }))
      if (what !== "broker") {
        const times = what === "link" ? 4 : 2
        for (let cut = 0; cut < times; cut++) {
          yield* Effect.sleep(random.below(300))
          // The next connection fares as badly; a handshake takes some hundred bytes.
          yield* link.resetAfter(300 + random.below(6_000), random.below(2) === 0 ? "up" : "down")
          yield* link.cut
        }
      }
      if (what !== "link") {
        yield* Effect.sleep(random.below(1_000))
        yield* node.kill9
        if (what === "all three") {
          yield* bridge.kill("SIGKILL")
          yield* bridge.exited
        }
        yield* node.start
        if (what === "all three") bridge = yield* start
      }
      yield* Fiber.join(publishing)
      yield* answered("90 seconds")
    }
    const run = `${what}, ${pack === "all" ? "packed" : "single"}`
    return yield* report({ experiment: "broker", run, rounds, seed })
  }).pipe(Effect.scoped)
