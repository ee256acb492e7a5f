import { dlopen } from "bun:ffi"
import { Config, Context, Duration, Effect, Layer, Option } from "effect"

/**
 * What systemd is told about this process, through `sd_notify` of libsystemd. Nothing is sent, and nothing fails, where
 * nobody listens (no `NOTIFY_SOCKET`) or where the library is missing.
 */
export class Systemd extends Context.Service<
  Systemd,
  {
    /** The service has started: `Type=notify` waits for this. */
    readonly ready: (status: string) => Effect.Effect<void>
    /** The line that `systemctl status` shows. */
    readonly status: (text: string) => Effect.Effect<void>
    /** The stop has begun, also when it was not systemd that asked for it. */
    readonly stopping: Effect.Effect<void>
    /** A sign of life: without one within `WatchdogSec=` the service is killed and started again. */
    readonly watchdog: Effect.Effect<void>
    /** How often systemd wants `watchdog`: half of its limit, as sd_watchdog_enabled(3) advises. None if it does not watch. */
    readonly watchdogInterval: Option.Option<Duration.Duration>
  }
>()("b24rmq/Systemd") {
  static readonly layer = Layer.effect(
    Systemd,
    Effect.gen(function* () {
      const send = (yield* listening) ? yield* libsystemd : nobody
      return Systemd.of({
        ready: (status) => send(`READY=1\nSTATUS=${oneLine(status)}`),
        status: (text) => send(`STATUS=${oneLine(text)}`),
        stopping: send("STOPPING=1"),
        watchdog: send("WATCHDOG=1"),
        watchdogInterval: yield* watchdogInterval
      })
    })
  )
}

type Send = (state: string) => Effect.Effect<void>

const nobody: Send = () => Effect.void

const listening = Config.String("NOTIFY_SOCKET").pipe(Config.option, Effect.map(Option.isSome), Effect.orDie)

/** `WATCHDOG_PID` tells for which process the limit is meant: a child that inherits our environment is not it. */
const watchdogInterval = Config.all({
  micros: Config.Int("WATCHDOG_USEC").pipe(Config.option),
  pid: Config.Int("WATCHDOG_PID").pipe(Config.option)
}).pipe(
  Effect.map(({ micros, pid }) =>
    Option.filter(micros, (limit) => limit > 0 && Option.getOrElse(pid, () => process.pid) === process.pid)
  ),
  // Not worth refusing to start: a watchdog that systemd misspelt is one that it does not expect us to feed.
  Effect.orElseSucceed(() => Option.none<number>()),
  Effect.map(Option.map((limit) => Duration.millis(limit / 2000)))
)

/** Bun speaks no unix datagrams, so the message goes through the library that systemd itself brings along. */
const libsystemd: Effect.Effect<Send, never, never> = Effect.try({
  // Never closed: one handle for the life of the process, and a message may still be on its way when a scope ends.
  try: () => dlopen("libsystemd.so.0", { sd_notify: { args: ["i32", "buffer"], returns: "i32" } }).symbols.sd_notify,
  catch: () => undefined
}).pipe(
  Effect.map((notify) => (state: string) => Effect.sync(() => void notify(0, Buffer.from(`${state}\0`)))),
  Effect.catch(() => Effect.succeed(nobody))
)

/** Each line of a message is an assignment of its own, so a text from outside must not bring line breaks (or a NUL) along. */
const oneLine = (text: string) => text.replaceAll(/[\p{Cc}\s]+/gu, " ").trim()
