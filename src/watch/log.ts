import { Effect, Layer, Logger, References } from "effect"
import { layerRepeats } from "../events.ts"
import { Settings } from "../settings.ts"

/** One event as flat fields: time, level, event, message, then its own. */
const fieldsOf = ({ date, fiber, logLevel, message, cause }: Logger.Options<unknown>) => {
  const { event, ...rest } = fiber.getRef(References.CurrentLogAnnotations)
  const failure = cause.reasons.length === 0 ? {} : { cause: String(cause) }
  const text = Array.isArray(message) ? message.map(String).join(" ") : String(message)
  return { time: date.toISOString(), level: logLevel.toLowerCase(), event, message: text, ...rest, ...failure }
}

const bare = /^[^\s="]+$/

const logfmt = (fields: Readonly<Record<string, unknown>>) =>
  Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => {
      const text = String(value)
      return `${name}=${bare.test(text) ? text : JSON.stringify(text)}`
    })
    .join(" ")

const asLogfmt = Logger.make((options: Logger.Options<unknown>) => logfmt(fieldsOf(options)))
const asJson = Logger.make((options: Logger.Options<unknown>) => JSON.stringify(fieldsOf(options)))

const levels = { debug: "Debug", info: "Info", warn: "Warn", error: "Error" } as const

/** The log on standard error, in the form and from the level that the settings ask for. */
export const layerLog = Layer.unwrap(
  Effect.gen(function* () {
    const settings = yield* Settings
    const json = settings.log === "json" || (settings.log === "auto" && !process.stderr.isTTY)
    return layerRepeats.pipe(
      Layer.provideMerge(
        Layer.mergeAll(
          Logger.layer([Logger.withConsoleError(json ? asJson : asLogfmt)]),
          Layer.succeed(References.MinimumLogLevel, levels[settings.logLevel])
        )
      )
    )
  })
)
