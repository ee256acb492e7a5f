import { Effect, Fiber } from "effect"
import type { Bridge } from "../../test/rig/bridge.ts"
import { startPostgres } from "../../test/rig/postgres.ts"
import { sharedNode } from "../../test/rig/rabbit.ts"
import { RigFailed, until } from "../../test/rig/until.ts"
import { median } from "../limits/witness.ts"
import { mixed } from "./load.ts"
import { randomOf } from "./random.ts"
import type { Report } from "./report.ts"
import { stage } from "./stage.ts"

/**
 * What befalls the active bridge: killed and started again; frozen until the other one works, and a little longer; frozen
 * for some seconds, about as long as its lease; or the server of its journal is restarted.
 */
export type Fall = "killed" | "frozen" | "frozen for a while" | "PostgreSQL restarted"

export interface StandbyRun {
  /** One after the other, and again from the first. */
  readonly falls: ReadonlyArray<Fall>
  /** For how long, in milliseconds. */
  readonly lasts: number
  /** How long a bridge is active before something befalls it, in milliseconds. */
  readonly every: number
  readonly requests: number
  readonly seed: number
}

/** By then one that was thawed knows whether the journal is still its own: it looks every two seconds. */
const wakesWithin = 3_000

/** Whether it takes requests and may send their writes, by what it has said. */
const isActive = (bridge: Bridge) => {
  let [ready, consumes] = [false, false]
  for (const { event } of bridge.lines()) {
    if (event === "journal-ready") ready = true
    if (event === "journal-failed" || event === "journal-standby") ready = false
    if (event === "consuming") consumes = true
    if (event === "link-lost" || event === "journal-standby") consumes = false
  }
  return ready && consumes
}

/** Two bridges share a journal in PostgreSQL, while requests flow and one thing after the other befalls the active one. */
export const standby = ({ falls, lasts, every, requests, seed }: StandbyRun) =>
  Effect.gen(function* () {
    const random = randomOf(seed)
    const server = yield* startPostgres()
    const { portal, again, launch, publish, answered, report } = yield* stage(yield* sharedNode, {
      env: { B24RMQ_JOURNAL: yield* server.database }
    })
    let bridges: ReadonlyArray<Bridge> = [yield* launch, yield* launch]
    const active = (except?: Bridge) =>
      until(
        "one of two bridges is active",
        Effect.sync(() => {
          const found = bridges.filter((bridge) => bridge !== except && isActive(bridge))
          return found.length === 1 && found[0]
        }),
        { within: "90 seconds" }
      ).pipe(
        Effect.mapError(({ what }) => {
          const words = bridges.map((bridge) => bridge.output().slice(-2_000))
          return new RigFailed({ what: `${what}. Their last words: ${words.join("\n---\n")}` })
        })
      )
    const took = { killed: [] as Array<number>, frozen: [] as Array<number> }
    const takenOver = Effect.fnUntraced(function* (fallen: Bridge, how: keyof typeof took) {
      const begun = performance.now()
      yield* again(active(fallen))
      took[how].push(performance.now() - begun)
    })

    let restarts = 0
    const befalls = Effect.fnUntraced(function* (fall: Fall) {
      const fallen = yield* active()
      switch (fall) {
        case "killed":
          yield* fallen.kill("SIGKILL")
          yield* takenOver(fallen, "killed")
          bridges = [...bridges.filter((bridge) => bridge !== fallen), yield* launch]
          return
        case "frozen":
          yield* fallen.kill("SIGSTOP")
          yield* takenOver(fallen, "frozen")
          yield* Effect.sleep(random.below(3_000))
          yield* fallen.kill("SIGCONT")
          return yield* Effect.sleep(wakesWithin)
        case "frozen for a while":
          yield* fallen.kill("SIGSTOP")
          yield* Effect.sleep(1_000 + random.below(13_000))
          yield* fallen.kill("SIGCONT")
          return yield* Effect.sleep(wakesWithin)
        case "PostgreSQL restarted":
          yield* ++restarts % 2 === 1 ? server.stopFast : server.kill9
          yield* Effect.sleep(random.below(1_000))
          yield* server.start
      }
    })

    yield* active()
    const load = mixed(portal, "1", requests, random)
    const publishing = yield* Effect.forkScoped(publish(load, { rate: (1_000 * requests) / lasts, within: "1 hour" }))
    const befallen = falls.map(() => 0)
    const ends = performance.now() + lasts
    for (let at = 0; performance.now() < ends; at = (at + 1) % falls.length) {
      yield* Effect.sleep(every)
      yield* befalls(falls[at] ?? "killed")
      befallen[at] = (befallen[at] ?? 0) + 1
    }
    yield* Fiber.join(publishing)
    yield* answered("5 minutes")
    const rounds = befallen.reduce((sum, count) => sum + count, 0)
    const found: Report = yield* report({ experiment: "standby", run: "", rounds, seed })
    const seconds = (times: ReadonlyArray<number>) =>
      times.length === 0
        ? "-"
        : `${times.length}: ${(median(times) / 1_000).toFixed(1)} s, at most ${(Math.max(...times) / 1_000).toFixed(1)} s`
    return {
      ...found,
      figures: {
        "taken over, killed": seconds(took.killed),
        "taken over, frozen": seconds(took.frozen),
        "PostgreSQL restarts": restarts
      }
    }
  }).pipe(Effect.scoped)
