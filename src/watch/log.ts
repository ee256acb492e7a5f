import { Context, Effect, Layer, Logger, MutableRef, References } from "effect"
import { layerRepeats, TellsAll } from "../events.ts"
import { Settings } from "../settings.ts"

type Fields = Readonly<Record<string, unknown>>

/** One event as flat fields: time, level, event, message, then its own. */
const fieldsOf = ({ date, fiber, logLevel, message, cause }: Logger.Options<unknown>): Fields => {
  const { event, ...rest } = fiber.getRef(References.CurrentLogAnnotations)
  const failure = cause.reasons.length === 0 ? {} : { cause: String(cause) }
  const text = Array.isArray(message) ? message.map(String).join(" ") : String(message)
  return { time: date.toISOString(), level: logLevel.toLowerCase(), event, message: text, ...rest, ...failure }
}

const bare = /^[^\s="]+$/

const logfmt = (fields: Fields) =>
  Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => {
      const text = String(value)
      return `${name}=${bare.test(text) ? text : JSON.stringify(text)}`
    })
    .join(" ")

const levels = ["debug", "info", "warn", "error", "fatal"]

/** An event that a person should look at; the same again is one entry. */
export interface Noted {
  /** Milliseconds since 1970, of the last time. */
  readonly at: number
  readonly times: number
  readonly level: string
  readonly event: string
  readonly text: string
}

/** The end of the log, for those who ask for it later. */
interface LogTail {
  /** The last lines, the oldest first. */
  readonly lines: Effect.Effect<ReadonlyArray<string>>
  /** The last events from `warn` on, the oldest first. */
  readonly noted: Effect.Effect<ReadonlyArray<Noted>>
}

/** Empty where the log is another one. */
export const Tail = Context.Reference<LogTail>("b24rmq/Tail", {
  defaultValue: () => ({ lines: Effect.succeed([]), noted: Effect.succeed([]) })
})

const mostLines = 500
const mostNoted = 20
/** A line that is longer is cut. */
const longestLine = 2_000

/** The log on standard error, in the form and from the level that the settings ask for, and its end. */
export const layerLog = Layer.unwrap(
  Effect.gen(function* () {
    const settings = yield* Settings
    const json = settings.log === "json" || (settings.log === "auto" && !process.stderr.isTTY)
    const lines: Array<string> = []
    const noted = new Map<string, Noted>()

    const note = (at: number, fields: Fields) => {
      const { event, level, message, reason } = fields
      const key = `${event} ${reason}`
      const times = (noted.get(key)?.times ?? 0) + 1
      const more = logfmt({ ...fields, time: undefined, level: undefined, event: undefined, message: undefined })
      noted.delete(key)
      noted.set(key, {
        at,
        times,
        level: String(level),
        event: String(event),
        text: `${message}${more && ` (${more})`}`.slice(0, longestLine)
      })
      const [oldest] = noted.keys()
      if (noted.size > mostNoted && oldest !== undefined) noted.delete(oldest)
    }

    const print = Logger.withConsoleError(
      Logger.make((options: Logger.Options<unknown>) => {
        const fields = fieldsOf(options)
        const line = json ? JSON.stringify(fields) : logfmt(fields)
        if (lines.push(line.slice(0, longestLine)) > mostLines) lines.shift()
        if (levels.indexOf(String(fields.level)) >= levels.indexOf("warn")) note(options.date.getTime(), fields)
        return line
      })
    )
    // The level may change while the bridge runs.
    const fromLevel = Logger.make((options: Logger.Options<unknown>) => {
      const { logLevel } = MutableRef.get(settings.live)
      if (levels.indexOf(options.logLevel.toLowerCase()) >= levels.indexOf(logLevel)) print.log(options)
    })
    return layerRepeats.pipe(
      Layer.provideMerge(
        Layer.mergeAll(
          Logger.layer([fromLevel]),
          Layer.succeed(References.MinimumLogLevel, "Debug"),
          Layer.succeed(TellsAll, () => MutableRef.get(settings.live).logLevel === "debug"),
          Layer.succeed(Tail, { lines: Effect.sync(() => [...lines]), noted: Effect.sync(() => [...noted.values()]) })
        )
      )
    )
  })
)
