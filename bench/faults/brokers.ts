import { Effect, Fiber } from "effect"
import { victim } from "../../test/rig/rabbit.ts"
import type { Pack } from "./kills.ts"
import { mixed } from "./load.ts"
import { randomOf } from "./random.ts"
import { stage } from "./stage.ts"

/** What is broken in a round: the broker (-9), its link (reset after random bytes), the bridge (-9). */
export type Broken = "broker" | "link" | "both" | "all three"

/** Requests in a second, where they do not come all at once. */
const rate = 250

/**
 * The broker is killed and started again, its link is reset, or both, while requests are published and answered. Started
 * again, the broker brings back what was acknowledged and not yet written down.
 */
export const brokenBroker = (what: Broken, pack: Pack, rounds: number, seed: number, size = 800) =>
  Effect.gen(function* () {
    const random = randomOf(seed)
    const node = yield* victim
    const { portal, link, start, again, consuming, publish, answered, report } = yield* stage(node, {
      latency: 20,
      env: { B24RMQ_PACK: pack, B24RMQ_CONCURRENCY: "16" }
    })
    let bridge = yield* start
    for (let round = 1; round <= rounds; round++) {
      const load = mixed(portal, `${round}`, size, random)
      // A backlog that is worked off without a break leaves the broker no time to write down acknowledgements.
      const publishing = yield* Effect.forkScoped(publish(load, round % 2 === 1 ? {} : { rate }))
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
        yield* Effect.sleep(300 + random.below(700))
        const mark = bridge.mark()
        yield* node.kill9
        if (what === "all three") {
          yield* bridge.kill("SIGKILL")
          yield* bridge.exited
        }
        yield* node.start
        if (what === "all three") bridge = yield* start
        else yield* again(consuming(bridge, mark))
      }
      yield* Fiber.join(publishing)
      yield* answered("90 seconds")
    }
    const run = `${what}, ${pack === "all" ? "packed" : "single"}`
    return yield* report({ experiment: "broker", run, rounds, seed })
  }).pipe(Effect.scoped)
