import { Effect, SubscriptionRef } from "effect"
import { Dispatch } from "../bridge/dispatch.ts"
import { Connection } from "../queue/connection.ts"
import { Intake } from "../queue/intake.ts"
import { until } from "../queue/kept.ts"
import { Outlet } from "../queue/outlet.ts"
import { Settings } from "../settings.ts"
import { Systemd } from "./systemd.ts"

/** How long a start may take before systemd is told that it is over, with what is missing: it would kill us otherwise. */
const patience = "20 seconds"

/** Tells systemd when the bridge is ready, and in a line what it does or waits for. Runs until it is interrupted. */
export const announce = Effect.gen(function* () {
  const settings = yield* Settings
  const systemd = yield* Systemd
  const connection = yield* Connection
  const intake = yield* Intake
  const outlet = yield* Outlet
  const dispatch = yield* Dispatch

  const queues = settings.ampqIn.join(", ")
  const sentence = Effect.sync(() => {
    if (SubscriptionRef.getUnsafe(connection.link) === undefined) return "no connection to the broker; trying again"
    if (SubscriptionRef.getUnsafe(dispatch.health) === "away") return "the portal does not answer; requests are held"
    const closed = SubscriptionRef.getUnsafe(outlet.closed)
    if (closed !== undefined) return closed
    if (!SubscriptionRef.getUnsafe(intake.consuming)) return `cannot take requests from ${queues}; trying again`
    return `taking requests from ${queues}`
  })

  yield* Effect.addFinalizer(() => systemd.stopping)
  yield* Effect.timeoutOption(
    until(intake.consuming, (on) => on),
    patience
  )
  let told = yield* sentence
  yield* systemd.ready(told)
  return yield* Effect.forever(
    Effect.gen(function* () {
      yield* Effect.sleep("1 second")
      const now = yield* sentence
      if (now !== told) yield* systemd.status(now)
      told = now
    })
  )
})
