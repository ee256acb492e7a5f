import { Effect } from "effect"
import type { PortalFailed } from "../../src/sandbox/portal/server.ts"
import type { RigFailed } from "../../test/rig/until.ts"
import type { Contestant } from "./contestants.ts"
import { type Drain, underCloud, underLatency } from "./drain.ts"
import { directly, idle, type Latency, underLoad } from "./latency.ts"
import { comesBack, startUp } from "./moments.ts"
import { peakOf } from "./size.ts"
import { type Throughput, throughput } from "./throughput.ts"

export interface Scale {
  readonly rounds: number
  /** Requests of a backlog. */
  readonly messages: number
  /** Requests that warm a program up before its latency is measured. */
  readonly warm: number
  /** Requests one after the other. */
  readonly singles: number
  /** Seconds of load at half of what a contestant can do. */
  readonly seconds: number
  /** Requests of a backlog under a portal's limits; of those who do not pack. */
  readonly drain: number
  readonly sample: number
  /** Requests with answers of two kilobytes. */
  readonly backlog: number
  readonly starts: number
  /** How long the broker is away, in seconds. */
  readonly outages: ReadonlyArray<number>
}

/** What was measured of one contestant; each list has a value for each round. */
export interface Row {
  readonly contestant: Contestant
  readonly lacks: string | undefined
  readonly throughputs: Array<Throughput>
  readonly idle: Array<Latency>
  readonly loaded: Array<Latency & { readonly rate: number }>
  cloud: Drain | undefined
  latency: Drain | undefined
}

/** The memory and the moments of the bridge alone. */
export interface Rest {
  /** Bytes. */
  readonly unpackedBacklog: number
  readonly packedBacklog: number
  readonly largeAnswer: number
  /** Milliseconds. */
  readonly starts: ReadonlyArray<number>
  readonly back: ReadonlyArray<number>
}

export interface Bench {
  readonly rows: ReadonlyArray<Row>
  readonly direct: ReadonlyArray<Latency>
  readonly rest: Rest | undefined
}

const reads = ({ contestant }: Row) => contestant.asks === "reads"

/** Bytes of an answer that is as large as the bridge passes on, almost. */
const largest = 15_000_000

/**
 * All contestants in turn, round after round, so that whatever else the machine does meets all of them alike. What fails
 * is told and left out.
 */
export const bench = (
  contestants: ReadonlyArray<Contestant>,
  scale: Scale,
  parts: { readonly drains: boolean; readonly rest: boolean },
  tell: (what: string, figures: unknown) => void
) =>
  Effect.gen(function* () {
    const told = <A>(what: string, measured: Effect.Effect<A, RigFailed | PortalFailed>) =>
      measured.pipe(
        Effect.tap((figures) => Effect.sync(() => tell(what, figures))),
        Effect.catch((error) => Effect.sync(() => void tell(what, { failed: error.message })))
      )
    const rows = contestants.map((contestant): Row => {
      const lacks = contestant.lacks?.()
      return { contestant, lacks, throughputs: [], idle: [], loaded: [], cloud: undefined, latency: undefined }
    })
    const present = rows.filter(({ lacks }) => lacks === undefined)
    const direct: Array<Latency> = []
    for (let round = 1; round <= scale.rounds; round++) {
      const direction = yield* told("direct", directly(scale.singles))
      if (direction !== undefined) direct.push(direction)
      for (const row of present) {
        const { contestant, throughputs } = row
        const { name } = contestant
        const found = yield* told(`${name}, backlog`, throughput(contestant, scale.messages))
        if (found === undefined) continue
        throughputs.push(found)
        if (!reads(row)) continue
        const singles = contestant.without === "ids" ? Math.min(20, scale.singles) : scale.singles
        const alone = yield* told(`${name}, idle`, idle(contestant, singles, scale.warm))
        if (alone !== undefined) row.idle.push(alone)
        if (contestant.without === "ids") continue
        const rate = Math.max(1, Math.round(found.perSecond / 2))
        const loaded = yield* told(
          `${name}, half load of ${rate}/s`,
          underLoad(contestant, rate, scale.seconds, scale.warm)
        )
        if (loaded !== undefined) row.loaded.push({ ...loaded, rate })
      }
    }
    for (const row of parts.drains ? present.filter(reads) : []) {
      const { contestant } = row
      if (contestant.without === "portal") continue
      row.latency = (yield* told(`${contestant.name}, 100 ms`, underLatency(contestant, scale.drain))) ?? undefined
      row.cloud =
        (yield* told(`${contestant.name}, cloud`, underCloud(contestant, scale.drain, scale.sample))) ?? undefined
    }
    const nothing = Number.NaN
    const rest: Rest | undefined = parts.rest
      ? {
          unpackedBacklog: (yield* told("2 KB, unpacked", peakOf("unpacked", scale.backlog, 2_000))) ?? nothing,
          packedBacklog: (yield* told("2 KB, packed", peakOf("packed", scale.backlog, 2_000))) ?? nothing,
          largeAnswer: (yield* told("15 MB", peakOf("packed", 1, largest))) ?? nothing,
          starts: (yield* told("start", Effect.all(Array.from({ length: scale.starts }, () => startUp)))) ?? [],
          back: (yield* told("broker back", comesBack(scale.outages))) ?? []
        }
      : undefined
    const found: Bench = { rows, direct, rest }
    return found
  })
