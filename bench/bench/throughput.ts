import { Effect } from "effect"
import type { Contestant } from "./contestants.ts"
import { asked, idlePortal, stand, usageOf } from "./stand.ts"

/** One run of one contestant. */
export interface Throughput {
  readonly perSecond: number
  /** CPU seconds for 10,000 requests. */
  readonly cpu: number
  /** Bytes at the peak. */
  readonly peak: number
}

/**
 * How fast a backlog is worked off that is there before the program starts, against a portal that takes no time. The first
 * half of it warms the program up, for these are meant to run for weeks; the second half is measured. Answers stay in the
 * queue, so that nobody who reads them takes part.
 */
export const throughput = (
  contestant: Contestant,
  count: number,
  { size = 300, env = {} }: { readonly size?: number; readonly env?: Readonly<Record<string, string>> } = {}
) =>
  Effect.gen(function* () {
    const messages = Math.ceil(count / (contestant.fewer ?? 1))
    const { start, answered, publish } = yield* stand()
    const rest = yield* idlePortal(size)
    yield* publish(asked(contestant, messages))
    const program = yield* start(contestant, rest, { SIZE: `${size}`, ...env })
    const first = yield* answered(Math.ceil(messages / 2))
    const began = performance.now()
    const before = usageOf(program.pid)
    yield* answered(messages)
    const took = (performance.now() - began) / 1_000
    const after = usageOf(program.pid)
    const done = messages - first
    const found: Throughput = {
      perSecond: done / took,
      cpu: ((after.cpu - before.cpu) * 10_000) / done,
      peak: after.peak
    }
    return found
  }).pipe(Effect.scoped)
