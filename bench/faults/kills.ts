import { watch } from "node:fs"
import { Effect, Fiber } from "effect"
import { sharedNode } from "../../test/rig/rabbit.ts"
import { until } from "../../test/rig/until.ts"
import { mixed } from "./load.ts"
import { type Random, randomOf } from "./random.ts"
import { type Stage, stage } from "./stage.ts"

export type Pack = "off" | "all"

/** Requests in a round. */
const size = 40

type Wait = (stage: Stage, random: Random) => Effect.Effect<unknown>

/** A moment in a request's life, as it can be seen from outside. */
interface Border {
  /** What is held up until the bridge is dead, so that it dies there. What was held is lost with the connections. */
  readonly hold?: (stage: Stage) => Effect.Effect<void>
  readonly wait: Wait
  readonly latency?: number
}

/** The border may come so often in a round: a part of the load passes before. */
const some: Wait = ({ portal }, random) => {
  const enough = portal.count() + 1 + random.below(size / 2)
  return portal.until(({ count }) => count() >= enough)
}

const after =
  (first: Wait, then: Wait): Wait =>
  (stage, random) =>
    Effect.andThen(first(stage, random), then(stage, random))

const answer: Wait = ({ answers }, random) =>
  Effect.suspend(() => {
    const enough = answers.received() + 1 + random.below(3)
    return until(
      "answers",
      Effect.sync(() => answers.received() >= enough),
      { every: "1 millis", within: "2 seconds" }
    )
  }).pipe(Effect.ignore)

const bytes =
  (way: "link" | "door", direction: "up" | "down", least: number, spread: number): Wait =>
  (stage, random) =>
    Effect.suspend(() => {
      const enough = stage[way].bytes()[direction] + least + random.below(spread)
      return Effect.timeoutOption(
        stage[way].until((bytes) => bytes[direction] >= enough),
        "1 second"
      )
    })

/** The journal's file has been written to. */
const journal: Wait = ({ folder }) =>
  Effect.callback<void>((resume) => {
    const watcher = watch(folder, () => resume(Effect.void))
    return Effect.sync(() => watcher.close())
  }).pipe(Effect.timeoutOption("2 seconds"))

const sleep =
  (spread: number): Wait =>
  (_, random) =>
    Effect.sleep(random.below(spread))

export const borders = {
  // Deliveries are read, and most of them wait.
  "before intent": { wait: bytes("link", "down", 1, 8_000) },
  "after intent": { wait: after(some, journal) },
  "before call": {
    hold: ({ door }) => door.halfOpen("hold", "up"),
    wait: bytes("door", "up", 1, 900)
  },
  "during call": {
    latency: 100,
    wait: after(({ portal }) => portal.until(({ inFlight }) => inFlight > 1), sleep(300))
  },
  "after the portal committed": {
    hold: ({ door }) => door.halfOpen("hold", "down"),
    wait: ({ portal }, random) => {
      const enough = portal.count() + 1 + random.below(3)
      return Effect.timeoutOption(
        portal.until(({ count }) => count() >= enough),
        "1 second"
      )
    }
  },
  "after the answer is journaled": {
    hold: ({ link }) => link.halfOpen("hold", "up"),
    wait: bytes("link", "up", 150, 600)
  },
  "after publish": { hold: ({ link }) => link.halfOpen("hold", "down"), wait: answer },
  // What the bridge sends comes late, confirms come at once: its acknowledgements are still on their way.
  "before acknowledge": { hold: ({ link }) => link.delay(150, "up"), wait: after(answer, sleep(120)) },
  "any moment": { wait: sleep(400) }
} satisfies Readonly<Record<string, Border>>

export type BorderName = keyof typeof borders

/** The bridge is killed at a border and started again with the journal that it had, so many times. */
export const killed = (name: BorderName, pack: Pack, rounds: number, seed: number) =>
  Effect.gen(function* () {
    const random = randomOf(seed)
    const { hold, wait, latency }: Border = borders[name]
    const scene = yield* stage(yield* sharedNode, { env: { B24RMQ_PACK: pack } })
    const { portal, link, door, start, publish, answered, report } = scene
    let bridge = yield* start
    for (let round = 1; round <= rounds; round++) {
      portal.latency(latency ?? 20)
      const load = mixed(portal, `${round}`, size, random)
      const publishing = yield* Effect.forkScoped(publish(load))
      if (hold !== undefined) {
        yield* some(scene, random)
        yield* hold(scene)
      }
      yield* wait(scene, random)
      yield* bridge.kill("SIGKILL")
      if (hold !== undefined) yield* Effect.andThen(link.cut, door.cut)
      yield* bridge.exited
      yield* Effect.all([link.halfOpen(false), door.halfOpen(false), link.delay(0)])
      yield* Fiber.join(publishing)
      bridge = yield* start
      yield* answered()
    }
    return yield* report({ experiment: "kill", run: `${name}, ${pack === "all" ? "packed" : "single"}`, rounds, seed })
  }).pipe(Effect.scoped)
