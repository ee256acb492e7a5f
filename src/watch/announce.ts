import { Clock, Effect } from "effect"
import { tell } from "../events.ts"
import { Intake } from "../queue/intake.ts"
import { until } from "../queue/kept.ts"
import { type Cause, causeOf } from "./cause.ts"
import { Overview } from "./overview.ts"
import { Systemd } from "./systemd.ts"

/** How long a start may take before systemd is told that it is over, with what is missing: it would kill us otherwise. */
const patience = "20 seconds"

/** A cause has to be seen twice before it is told: one that comes and goes is none. */
const every = "500 millis"

/** What is well is said again only after so long, or after something else was told to be wrong. Milliseconds. */
const quiet = 600_000

/**
 * Tells systemd when the bridge is ready, and in a line what it does or waits for, and why; the log is told of each
 * change of that. Runs until it is interrupted.
 */
export const announce = Effect.gen(function* () {
  const systemd = yield* Systemd
  const intake = yield* Intake
  const overview = yield* Overview
  const cause = Effect.map(overview.status, causeOf)

  yield* Effect.addFinalizer(() => systemd.stopping)
  yield* Effect.timeoutOption(
    until(intake.consuming, (on) => on),
    patience
  )
  let told = yield* cause
  yield* systemd.ready(told.en)
  let seen = told
  let logged: Cause | undefined
  const calm = new Map<string, number>()

  /** Of a change between what is well and what has to wait for the portal, a busy bridge would say too much. */
  const log = Effect.fnUntraced(function* (now: Cause) {
    if (now.code === logged?.code) return
    const at = yield* Clock.currentTimeMillis
    if (now.kind === "fails" || !now.moves) calm.clear()
    else if (at - (calm.get(now.code) ?? -Infinity) < quiet) return
    else calm.set(now.code, at)
    logged = now
    yield* tell(now.kind === "fails" ? "hindered" : "doing", { cause: now.code, says: now.en })
  })

  return yield* Effect.forever(
    Effect.gen(function* () {
      const now = yield* cause
      if (now.code === seen.code) {
        if (now.en !== told.en) yield* systemd.status(now.en)
        told = now
        yield* log(now)
      }
      seen = now
      yield* Effect.sleep(every)
    })
  )
})
