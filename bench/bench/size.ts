import { Effect } from "effect"
import { queueRequest } from "../../test/rig/producer.ts"
import { contestants } from "./contestants.ts"
import { asked, idlePortal, stand, usageOf } from "./stand.ts"

/** Bytes at the peak while so many requests are answered with so many bytes each. */
export const peakOf = (name: string, count: number, size: number) =>
  Effect.gen(function* () {
    const contestant = contestants.find((one) => one.name === name)
    if (contestant === undefined) return Number.NaN
    const { start, answered, publish } = yield* stand()
    const rest = yield* idlePortal(size)
    yield* publish(count === 1 ? [queueRequest({ method: "crm.deal.list" })] : asked(contestant, count))
    const { pid } = yield* start(contestant, rest)
    yield* answered(count)
    return usageOf(pid).peak
  }).pipe(Effect.scoped)
