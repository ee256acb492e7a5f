import { Console, Effect } from "effect"
import { openPortal } from "./portal/server.ts"

/** The simulated portal as a server of its own, until it is stopped: for integrators to test against. */
export const standalone = (options: { readonly hostname: string; readonly port: number }) =>
  Effect.gen(function* () {
    const portal = yield* openPortal({ ...options, control: true })
    yield* Console.log(
      [
        `The simulated portal listens. Point the bridge at it:`,
        `  B24REST=${portal.url}`,
        `Any user number and any token of letters and digits are accepted.`,
        `Faults, limits and counters (from this machine only): ${portal.origin}/_/`,
        `Stop it with Ctrl+C.`
      ].join("\n")
    )
    return yield* Effect.never
  }).pipe(Effect.scoped)
