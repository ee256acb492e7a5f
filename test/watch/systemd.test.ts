import { expect } from "bun:test"
import { join } from "node:path"
import { ConfigProvider, Duration, Effect, Option } from "effect"
import { Systemd } from "../../src/watch/systemd.ts"
import { effect, live } from "../effect.ts"
import { startSystemd } from "../rig/systemd.ts"

/** Where the service lies in there: the checkout may be under /tmp, of which the namespace has one of its own. */
const bun = "/usr/local/bin/bun"
const speaker = "/usr/local/lib/systemd-speaker.js"

/** A systemd that has a service which speaks through the module under test. */
const startWithSpeaker = Effect.gen(function* () {
  const systemd = yield* startSystemd
  const built = yield* Effect.promise(() =>
    Bun.build({ entrypoints: [join(import.meta.dir, "systemd-speaker.ts")], target: "bun" })
  )
  const [bundle] = built.outputs
  if (bundle === undefined) return yield* Effect.die(new Error("the speaker was not bundled"))
  yield* systemd.write(speaker, yield* Effect.promise(() => bundle.text()))
  yield* systemd.copy(process.execPath, bun)
  return systemd
})

/** The unit of that service. */
const unit = (word: string, ...lines: ReadonlyArray<string>) =>
  ["[Service]", "Type=notify", `ExecStart=${bun} ${speaker} ${word}`, ...lines, ""].join("\n")

const under = (env: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown(env))

const interval = (env: Record<string, string>) =>
  Effect.map(Systemd, (it) => it.watchdogInterval).pipe(Effect.provide(Systemd.layer), under(env))

effect("the watchdog is fed twice within its limit, and only by the process that it is meant for", () =>
  Effect.gen(function* () {
    expect(yield* interval({ WATCHDOG_USEC: "30000000" })).toEqual(Option.some(Duration.seconds(15)))
    expect(yield* interval({ WATCHDOG_USEC: "2000000", WATCHDOG_PID: `${process.pid}` })).toEqual(
      Option.some(Duration.seconds(1))
    )
    expect(yield* interval({ WATCHDOG_USEC: "2000000", WATCHDOG_PID: "1" })).toEqual(Option.none())
    for (const odd of ["", "0", "-5", "soon"]) expect(yield* interval({ WATCHDOG_USEC: odd })).toEqual(Option.none())
    expect(yield* interval({})).toEqual(Option.none())
  })
)

effect("where nobody listens, nothing is sent and nothing fails", () =>
  Effect.gen(function* () {
    const systemd = yield* Systemd
    yield* systemd.ready("ready")
    yield* systemd.status("status")
    yield* systemd.watchdog
    yield* systemd.stopping
  }).pipe(Effect.provide(Systemd.layer), under({}))
)

live(
  "a real systemd hears ready, status and the stop",
  () =>
    Effect.gen(function* () {
      const systemd = yield* startWithSpeaker
      yield* systemd.install("speaker.service", unit("idle"))
      yield* systemd.systemctl("start", "speaker.service")
      expect(yield* systemd.show("speaker", "ActiveState")).toBe("active")
      yield* systemd.reaches("speaker", "StatusText", "312/min, waiting for rate")
      // What stood behind a line break in the first status was no assignment of its own.
      expect(yield* systemd.show("speaker", "MainPID")).not.toBe("1")
      expect(yield* systemd.journal("speaker.service")).toContain("interval none, libsystemd loaded")
      // A stop that systemd did not ask for.
      yield* systemd.kill("speaker.service", "SIGTERM")
      yield* systemd.reaches("speaker", "ActiveState", "deactivating")
      yield* systemd.reaches("speaker", "StatusText", "finishing 3 calls")
      yield* systemd.kill("speaker.service", "SIGKILL")
      yield* systemd.reaches("speaker", "ActiveState", "failed")
    }),
  30_000
)

live(
  "a service that feeds the watchdog lives, one that stops feeding is started again",
  () =>
    Effect.gen(function* () {
      const systemd = yield* startWithSpeaker
      const watched = ["WatchdogSec=1", "WatchdogSignal=SIGKILL", "Restart=on-failure", "RestartSec=0"]
      yield* systemd.install("fed.service", unit("fed", ...watched))
      yield* systemd.install("starved.service", unit("starved", ...watched))
      yield* systemd.systemctl("start", "fed.service", "starved.service")
      yield* systemd.reaches("starved", "NRestarts", "2") // two seconds, in which the other was due four times
      expect(yield* systemd.show("fed", "NRestarts")).toBe("0")
      expect(yield* systemd.show("fed", "ActiveState")).toBe("active")
      expect(yield* systemd.journal("fed.service")).toContain("interval 500ms")
    }),
  30_000
)

live(
  "without libsystemd the service works and is silent",
  () =>
    Effect.gen(function* () {
      const systemd = yield* startWithSpeaker
      const where = yield* systemd.inside("/bin/sh", "-c", "ldconfig -p | sed -n 's/.*libsystemd.so.0 .*=> //p'")
      const libraries = where.split("\n").filter((line) => line !== "")
      expect(libraries).not.toBeEmpty()
      yield* systemd.install(
        "mute.service",
        unit("idle", ...libraries.map((path) => `InaccessiblePaths=${path}`)).replace(
          "Type=notify",
          "Type=exec\nNotifyAccess=main"
        )
      )
      yield* systemd.systemctl("start", "mute.service")
      const logged = yield* systemd.logs("mute.service", "interval none, libsystemd not loaded")
      expect(logged).not.toMatch(/error|dlopen/i)
      expect(yield* systemd.show("mute", "ActiveState")).toBe("active")
      expect(yield* systemd.show("mute", "StatusText")).toBe("")
    }),
  30_000
)

live(
  "a service that systemd does not listen to leaves the library alone",
  () =>
    Effect.gen(function* () {
      const systemd = yield* startWithSpeaker
      yield* systemd.install("unheard.service", unit("idle").replace("Type=notify", "Type=exec"))
      yield* systemd.systemctl("start", "unheard.service")
      yield* systemd.logs("unheard.service", "libsystemd not loaded")
    }),
  30_000
)
