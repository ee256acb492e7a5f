import { Console, Effect, Layer, Option } from "effect"
import { CliOutput, Command, Completions, type HelpDoc } from "effect/cli"
import packaged from "../package.json" with { type: "json" }
import { about, command, commandLine } from "./command.ts"
import { describeSettings } from "./settings.ts"

/** The help of a command and of all below it, as the command line itself would give it. */
const helpOf = (
  path: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<HelpDoc.HelpDoc>, unknown, Command.Environment> =>
  Effect.gen(function* () {
    const docs: Array<HelpDoc.HelpDoc> = []
    const keep: CliOutput.Formatter = {
      ...CliOutput.defaultFormatter(),
      formatHelpDoc: (doc) => {
        docs.push(doc)
        return ""
      }
    }
    yield* Command.runWith(command, { version: packaged.version })([...path, "--help"]).pipe(
      Effect.provide(Layer.mergeAll(CliOutput.layer(keep), commandLine)),
      Effect.provideService(Console.Console, { ...globalThis.console, log: () => {} })
    )
    const below = docs.flatMap(({ subcommands = [] }) => subcommands.flatMap(({ commands }) => commands))
    const more = yield* Effect.forEach(below, ({ name }) => helpOf([...path, name]))
    return [...docs, ...more.flat()]
  })

/** Text as troff prints it: no character that it would take for its own, no hyphen for a dash. */
const plain = (text: string) =>
  text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .split("\n")
    .map((line) => line.replace(/^(?=[.'])/, "\\&"))
    .join("\n.br\n")

const entry = (term: string, text: string) => `.TP\n.B ${plain(term)}\n${plain(text)}`

const flagLine = ({ aliases, description, name, type }: HelpDoc.FlagDoc) =>
  entry(
    [`--${name}`, ...aliases].join(", ") + (type === "boolean" ? "" : ` ${type.toUpperCase()}`),
    Option.getOrElse(description, () => "")
  )

const argumentLine = ({ description, name }: HelpDoc.ArgDoc) =>
  Option.match(description, { onNone: () => [], onSome: (text) => [entry(name, text)] })

const commandSection = (doc: HelpDoc.HelpDoc) => {
  const rows = [...(doc.args ?? []).flatMap(argumentLine), ...doc.flags.map(flagLine)]
  return [`.SS ${plain(doc.usage)}`, plain(doc.description), ...rows].join("\n")
}

const settingLine = ({ meaning, name, standard, unit }: ReturnType<typeof describeSettings>[number]) =>
  entry(
    name,
    `${meaning.replaceAll("`", "").replace(/\.?$/, ".")} ${standard === undefined ? "Required." : standard === "" ? "None by default." : `By default ${standard}${unit ? ` ${unit}` : ""}.`}`
  )

const exits = [
  ["0", "Done; or the bridge was stopped by SIGTERM, SIGINT or SIGHUP."],
  [
    "1",
    "The bridge or the portal said no, a check does not hold, or a second signal came before the first stop was over."
  ],
  [
    "3",
    "status: something is the matter that a person has to see to. call: nobody knows whether it ran. rejected replay: it has stopped by itself."
  ],
  ["69", "No running bridge was found."],
  ["78", "The settings are wrong."]
] as const

const files = [
  ["/etc/b24rmq/b24rmq.env", "Settings of the systemd unit."],
  ["/run/b24rmq/", "The sockets by which the commands reach a running bridge."],
  ["/var/lib/b24rmq/", "The journal."]
] as const

/** The manual page, in the language of man(7). The build writes it into dist; the program itself does without it. */
export const manual = Effect.gen(function* () {
  const [root, ...below] = yield* helpOf([])
  return `${[
    `.TH B24RMQ 1 "" "B24RMQ ${packaged.version}" "User Commands"`,
    ".SH NAME",
    "B24RMQ \\- bridge between RabbitMQ and the Bitrix24 REST API",
    ".SH SYNOPSIS",
    ".B B24RMQ",
    "[command]",
    ".SH DESCRIPTION",
    plain(about),
    ".SH COMMANDS",
    ...below.map(commandSection),
    ".SH OPTIONS",
    ...(root?.globalFlags ?? []).map(flagLine),
    ".SH ENVIRONMENT",
    ...describeSettings("en").map(settingLine),
    ".SH EXIT STATUS",
    ...exits.map(([code, text]) => entry(code, text)),
    ".SH FILES",
    ...files.map(([file, text]) => entry(file, text))
  ].join("\n")}\n`
})

/** What the shells complete after `B24RMQ`. */
export const completions = (shell: "bash" | "zsh" | "fish") =>
  Completions.generate("B24RMQ", shell, Completions.fromCommand(command))
