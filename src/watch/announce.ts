import { Clock, Effect, Fiber } from "effect"
import { Pause } from "../bridge/pause.ts"
import { tell } from "../events.ts"
import { Journal } from "../journal/journal.ts"
import { Intake } from "../queue/intake.ts"
import { until } from "../queue/kept.ts"
import { type Cause, causeOf } from "./cause.ts"
import { Overview } from "./overview.ts"
import { Systemd } from "./systemd.ts"

/** How long a start may take before systemd is told that it is over, with what is missing: it would kill us otherwise. */
const patience = "20 seconds"

/** A cause has to be seen twice before it is told: one that comes and goes is none. */
const every = "500 millis"

/** What is usual is logged again only after so long, in milliseconds. */
const quiet = 600_000

/**
 * Tells systemd when the bridge is ready, and in a line what it does or waits for, and why; the log is told of each
 * change of that. Runs until it is interrupted.
 */
export const announce = Effect.gen(function* () {
  const systemd = yield* Systemd
  const intake = yield* Intake
  const journal = yield* Journal
  const pause = yield* Pause
  const overview = yield* Overview
  const cause = Effect.map(overview.status, causeOf)

  yield* Effect.addFinalizer(() => systemd.stopping)
  let said: Cause | undefined
  let seen: Cause | undefined
  let logged: Cause | undefined
  const told = new Map<string, number>()

  /** Of work that comes and goes, and waits for the portal now and then, a busy bridge would say too much. */
  const log = Effect.fnUntraced(function* (now: Cause) {
    if (now.code === logged?.code) return
    const at = yield* Clock.currentTimeMillis
    const isUsual = now.kind === "fine" ? logged?.kind === "fine" : now.moves && now.kind === "waits"
    if (isUsual && at - (told.get(now.code) ?? -Infinity) < quiet) return
    told.set(now.code, at)
    logged = now
    yield* tell(now.kind === "fails" ? "hindered" : "doing", { why: now.code, says: now.en })
  })

  const started = yield* Effect.forkScoped(
    Effect.raceAllFirst([
      until(intake.consuming, (on) => on),
      until(journal.state, ({ _tag }) => _tag === "standby"),
      until(pause.since, (since) => since !== undefined),
      Effect.sleep(patience)
    ]).pipe(
      Effect.andThen(cause),
      Effect.andThen(({ en }) => systemd.ready(en))
    )
  )

  yield* Effect.forever(
    Effect.gen(function* () {
      const now = yield* cause
      if (now.code === seen?.code) {
        if (now.en !== said?.en) yield* systemd.status(now.en)
        said = now
        yield* log(now)
      }
      seen = now
      yield* Effect.sleep(every)
    })
  ).pipe(Effect.raceFirst(Effect.andThen(Fiber.join(started), Effect.never)))
})
