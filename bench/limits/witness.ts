import { Effect, type Scope } from "effect"
import { classicMethods } from "../../src/sandbox/portal/methodsClassic.ts"
import { itemMethods } from "../../src/sandbox/portal/methodsItem.ts"
import type { WireRequest } from "../../src/sandbox/portal/http.ts"
import type { Portal } from "../../src/sandbox/portal/server.ts"

/** An HTTP request in which at least one method ran. Times are milliseconds of `performance.now()`. */
export interface Served {
  /** When its first method began. */
  readonly at: number
  readonly user: string
  /** Names of the methods that ran in it, one each. */
  readonly members: ReadonlyArray<string>
}

/** What the portal has seen. */
export interface Witness {
  /** When each HTTP request came, refused ones included. */
  readonly arrivals: ReadonlyArray<number>
  /** How long the portal had each of those that it has answered, in the order of their answers. */
  readonly own: ReadonlyArray<number>
  /** When it refused one for its rate. */
  readonly refusals: ReadonlyArray<number>
  readonly served: ReadonlyArray<Served>
}

/** Keeps books of what comes to a portal: its own log knows methods only, not the requests that they came in. */
export const witness = (portal: Portal): Effect.Effect<Witness, never, Scope.Scope> =>
  Effect.gen(function* () {
    const arrivals: Array<number> = []
    const own: Array<number> = []
    const refusals: Array<number> = []
    const served: Array<Served & { readonly members: Array<string> }> = []
    const byRequest = new WeakMap<WireRequest, { readonly members: Array<string> }>()
    for (const [name, { run, ...options }] of Object.entries({ ...classicMethods, ...itemMethods })) {
      portal.define(
        name,
        (call) => {
          let one = byRequest.get(call.request)
          if (one === undefined) {
            const fresh = { at: call.now - performance.timeOrigin, user: call.credential.user, members: [] }
            byRequest.set(call.request, (one = fresh))
            served.push(fresh)
          }
          one.members.push(name)
          return run(call)
        },
        options
      )
    }
    // The portal's only hook: it is looked at with every arrival, execution and answer.
    const inside: Array<number> = []
    let requests = portal.requests
    let refused = 0
    const look = () => {
      const now = performance.now()
      while (requests < portal.requests) {
        requests++
        arrivals.push(now)
        inside.push(now)
      }
      while (inside.length > portal.inFlight) own.push(now - (inside.shift() ?? now))
      for (const count = portal.refusals.get("QUERY_LIMIT_EXCEEDED") ?? 0; refused < count; refused++)
        refusals.push(now)
      return false
    }
    yield* Effect.forkScoped(portal.until(look), { startImmediately: true })
    return { arrivals, own, refusals, served }
  })

/** Refusals that came within a second of the first of them belong to one event: the calls that were on their way. */
export const events = (refusals: ReadonlyArray<number>): ReadonlyArray<number> => {
  const counts: Array<number> = []
  let first = -Infinity
  for (const at of refusals) {
    if (at - first > 1_000) {
      first = at
      counts.push(0)
    }
    counts.push((counts.pop() ?? 0) + 1)
  }
  return counts
}

/** The longest time without an arrival, in milliseconds. */
export const longestGap = ({ arrivals }: Witness): number =>
  arrivals.reduce((longest, at, index) => Math.max(longest, at - (arrivals[index - 1] ?? at)), 0)

export const quantile = (numbers: ReadonlyArray<number>, part: number): number => {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

export const median = (numbers: ReadonlyArray<number>): number => quantile(numbers, 0.5)

/** How many methods ran in each request, told in short: `200 x 50, 3 x 1`. */
export const sizes = ({ served }: Witness): string => {
  const counts = new Map<number, number>()
  for (const { members } of served) counts.set(members.length, (counts.get(members.length) ?? 0) + 1)
  const sorted = [...counts].sort(([, a], [, b]) => b - a)
  const shown = sorted.slice(0, 6).map(([size, count]) => `${count} x ${size}`)
  const rest = sorted.slice(6).reduce((sum, [, count]) => sum + count, 0)
  return [...shown, ...(rest > 0 ? [`${rest} others`] : [])].join(", ")
}
