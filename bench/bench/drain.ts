import { Effect, Fiber } from "effect"
import { openPortal, type PortalOptions } from "../../src/sandbox/portal/server.ts"
import type { Contestant } from "./contestants.ts"
import { asked, stand } from "./stand.ts"

/** How long a backlog takes. */
export interface Drain {
  /** Seconds for the whole backlog. */
  readonly seconds: number
  /** How many were really asked, where that was extrapolated. */
  readonly sample: number
}

/** The cloud: bitrix24/b24restdocs, limits.md. */
const burst = 50
const fall = 2

/** A portal of `options` until a backlog is answered; from its first call on. */
const drained = (
  contestant: Contestant,
  count: number,
  env: Readonly<Record<string, string>>,
  options: PortalOptions
) =>
  Effect.gen(function* () {
    const { start, answered, publish } = yield* stand()
    const portal = yield* openPortal({ keep: 100_000, ...options })
    yield* publish(asked(contestant, count))
    const called = yield* Effect.forkScoped(
      Effect.map(
        portal.until(({ requests }) => requests > 0),
        () => performance.now()
      ),
      { startImmediately: true }
    )
    yield* start(contestant, portal.url, env)
    yield* answered(count, "30 minutes")
    return (performance.now() - (yield* Fiber.join(called))) / 1_000
  }).pipe(Effect.scoped)

/** Under a cloud portal's limit of calls. One that does not pack is asked little: after the burst its pace is the portal's. */
export const underCloud = (contestant: Contestant, count: number, sample: number) =>
  Effect.gen(function* () {
    const few = contestant.packs ? count : Math.min(count, sample)
    const rate = { burst, fall, period: 1_000, stepwise: true, countsRefused: false }
    const env = { B24RMQ_RATE: `${fall}/${burst}` }
    const took = yield* drained(contestant, few, env, { latency: 10, limits: { rate } })
    const seconds = few === count ? took : (took * (count - burst)) / (few - burst)
    const found: Drain = { seconds, sample: few }
    return found
  })

/** Against a portal that takes 100 ms for each command, and limits nothing. */
export const underLatency = (contestant: Contestant, count: number) =>
  Effect.gen(function* () {
    const few = Math.ceil(count / (contestant.fewer ?? 1))
    const took = yield* drained(contestant, few, contestant.slow ?? {}, { latency: 100 })
    const found: Drain = { seconds: (took * count) / few, sample: few }
    return found
  })
