import { Effect } from "effect"
import { victim } from "../../test/rig/rabbit.ts"
import { randomOf } from "../faults/random.ts"
import { openStation, type Pace, type Round, type Sample } from "./station.ts"

export interface SoakOptions {
  readonly hours: number
  readonly seed: number
  readonly pace: Pace
  /** Told of each round as it ends, with what was sampled in it. */
  readonly tell: (round: Round, samples: ReadonlyArray<Sample>) => void
}

export interface Soak {
  readonly hours: number
  readonly rounds: ReadonlyArray<Round>
  /** Writes that must run once and ran more often. */
  readonly doubled: ReadonlyArray<string>
}

/** A minute: two thirds of it with faults. */
export const minute: Pace = { faults: 40_000, calm: 12_000, idle: 4_000, rate: 25 }

/** One round in four the broker is stopped for up to a seventh of the time of the faults. */
const brokerStops = 4

/** Rounds of load and faults until the time is over. Two bridges on one broker, of which one is never started again. */
export const soak = ({ hours, seed, pace, tell }: SoakOptions) =>
  Effect.gen(function* () {
    const node = yield* victim
    const random = randomOf(seed)
    const begun = performance.now()
    const stations = yield* Effect.all([
      openStation(node, "steady", { restarts: false, seed: random.below(2 ** 31), pace, begun }),
      openStation(node, "restarted", { restarts: true, seed: random.below(2 ** 31), pace, begun })
    ])
    const stopBroker = Effect.gen(function* () {
      yield* Effect.sleep(random.below(pace.faults / 4))
      yield* node.stopApp
      yield* Effect.sleep(random.below(pace.faults / 7))
      yield* node.startApp
      return ["broker stop"]
    })
    const rounds: Array<Round> = []
    let number = 0
    do {
      number++
      const stops = random.below(brokerStops) === 0
      const stopped = yield* Effect.cached(stops ? stopBroker : Effect.succeed([]))
      const ended = yield* Effect.forEach(stations, ({ round }) => round(number, stopped), { concurrency: "unbounded" })
      for (const { done, samples } of ended) {
        rounds.push(done)
        tell(done, samples)
      }
    } while (performance.now() - begun < hours * 3_600_000)
    const found: Soak = {
      hours: (performance.now() - begun) / 3_600_000,
      rounds,
      doubled: stations.flatMap(({ doubled }) => doubled())
    }
    return found
  }).pipe(Effect.scoped)
