// A service for systemd.test.ts: says what it is asked to say, then waits for the end.
import { readFileSync } from "node:fs"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Duration, Effect, Option } from "effect"
import { Systemd } from "../../src/watch/systemd.ts"

const feed = (systemd: Systemd["Service"], interval: Duration.Duration) =>
  systemd.watchdog.pipe(Effect.andThen(Effect.sleep(interval)), Effect.forever)

const loaded = () => (readFileSync("/proc/self/maps", "utf8").includes("libsystemd") ? "loaded" : "not loaded")

const speak = Effect.gen(function* () {
  const systemd = yield* Systemd
  const interval = systemd.watchdogInterval
  yield* systemd.ready("taking requests\nMAINPID=1")
  yield* Console.log(
    `interval ${Option.match(interval, { onNone: () => "none", onSome: Duration.format })}, libsystemd ${loaded()}`
  )
  if (process.argv[2] === "fed" && Option.isSome(interval)) yield* Effect.forkScoped(feed(systemd, interval.value))
  yield* systemd.status("312/min, waiting for rate")
  // Never done, so that the test can look at it while it stops.
  yield* Effect.addFinalizer(() =>
    systemd.stopping.pipe(Effect.andThen(systemd.status("finishing 3 calls")), Effect.andThen(Effect.never))
  )
  return yield* Effect.never
})

NodeRuntime.runMain(speak.pipe(Effect.scoped, Effect.provide(Systemd.layer)))
