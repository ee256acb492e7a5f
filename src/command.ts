import { Config, Console, Effect, Layer, Option, Schema } from "effect"
import { CliConfig, Command, Flag, GlobalFlag } from "effect/cli"
import packaged from "../package.json" with { type: "json" }
import unitText from "../packaging/b24rmq.service" with { type: "text" }
import { bridge } from "./bridge/bridge.ts"
import { Dispatch } from "./bridge/dispatch.ts"
import { Journeys } from "./bridge/journeys.ts"
import { Replay } from "./bridge/replay.ts"
import { tell } from "./events.ts"
import { Journal } from "./journal/journal.ts"
import { Portal } from "./portal/client.ts"
import { Connection, Dial } from "./queue/connection.ts"
import { Intake } from "./queue/intake.ts"
import { Outlet } from "./queue/outlet.ts"
import { Parked } from "./queue/parked.ts"
import { RejectedQueue } from "./queue/rejected.ts"
import { Topology } from "./queue/topology.ts"
import { describeSettings, environment, Settings } from "./settings.ts"
import { announce } from "./watch/announce.ts"
import { check } from "./watch/check.ts"
import { commandsWith } from "./watch/commands.ts"
import { openInterface } from "./watch/interface.ts"
import { layerLog } from "./watch/log.ts"
import { rejectedCommand } from "./watch/rejectedCommand.ts"
import { Overview } from "./watch/overview.ts"
import { Progress } from "./watch/progress.ts"
import { Systemd } from "./watch/systemd.ts"

const queue = Layer.mergeAll(Intake.layer, Outlet.layer, Parked.layer, RejectedQueue.layer).pipe(
  Layer.provideMerge(Topology.layer),
  Layer.provideMerge(Connection.layer)
)

const engineWith = <E, R>(journal: Layer.Layer<Journal, E, R>) =>
  Layer.mergeAll(Dispatch.layer, Journeys.layer, Replay.layer).pipe(
    Layer.provideMerge(queue),
    Layer.provideMerge(Layer.mergeAll(Portal.layer, journal))
  )

/** The daemon. */
const run = Effect.gen(function* () {
  yield* tell("starting", { version: packaged.version })
  const progress = yield* Progress
  yield* openInterface
  yield* Effect.raceAllFirst([bridge, announce, progress.run])
}).pipe(
  Effect.scoped,
  Effect.provide(
    Overview.layer.pipe(
      Layer.provideMerge(Progress.layer),
      Layer.provideMerge(Layer.mergeAll(engineWith(Journal.layer), Systemd.layer))
    )
  ),
  Effect.ensuring(tell("stopped")),
  Effect.provide(Layer.mergeAll(layerLog, Dial.layer)),
  Effect.provide(Settings.layer)
)

// The secret may come from the environment: an argument can be read in the list of processes.
const webhookFlags = {
  user: Flag.String("user").pipe(
    Flag.withSchema(Schema.String.check(Schema.isPattern(/^\d+$/, { message: "Expected the number of a user" }))),
    Flag.withDescription("User id of a webhook on the portal, or B24RMQ_CHECK_USER"),
    Flag.withFallbackConfig(Config.String("B24RMQ_CHECK_USER")),
    Flag.optional
  ),
  token: Flag.Redacted("token").pipe(
    Flag.withDescription("Secret of that webhook; better as B24RMQ_CHECK_TOKEN, which no list of processes shows"),
    Flag.withFallbackConfig(Config.Redacted("B24RMQ_CHECK_TOKEN")),
    Flag.optional
  )
}

const runCommand = Command.make("run", {}, () => run).pipe(
  Command.withDescription("Run the bridge (the same as no command)")
)

const checkCommand = Command.make("check", webhookFlags, (webhook) =>
  check(Option.all(webhook)).pipe(
    Effect.provide(Layer.mergeAll(Portal.layer, Dial.layer)),
    Effect.provide(Settings.layer)
  )
).pipe(Command.withDescription("Look at settings, broker, queues, rights and portal, and say what does not hold"))

const demoFlags = {
  count: Flag.Int("requests").pipe(Flag.withDescription("How many requests to send"), Flag.withDefault(1_000)),
  ...webhookFlags
}

// The sandbox is loaded by its own commands only: the daemon neither needs nor pays for it.
const demoCommand = Command.make("demo", demoFlags, ({ count, ...webhook }) =>
  Effect.gen(function* () {
    const { demo } = yield* Effect.promise(() => import("./sandbox/demo.ts"))
    const withLog = Layer.provideMerge(engineWith(Journal.layerMemory), layerLog)
    yield* demo(yield* environment, withLog, { count, webhook: Option.all(webhook) })
  })
).pipe(
  Command.withDescription(
    "Send requests through the whole bridge, on an embedded broker and a simulated portal unless AMPQURL and B24REST are set"
  )
)

const portalFlags = {
  hostname: Flag.String("host").pipe(Flag.withDescription("Address to listen on"), Flag.withDefault("127.0.0.1")),
  port: Flag.Int("port").pipe(Flag.withDescription("Port to listen on"), Flag.withDefault(8024))
}

const portalCommand = Command.make("portal", portalFlags, (options) =>
  Effect.gen(function* () {
    const { standalone } = yield* Effect.promise(() => import("./sandbox/standalone.ts"))
    yield* standalone(options)
  })
).pipe(Command.withDescription("Run the simulated portal as a server, to test producers against"))

const unitCommand = Command.make("unit", {}, () => Console.log(unitText.trimEnd())).pipe(
  Command.withDescription("Print the systemd unit")
)

/** What the program is. */
export const about =
  "Takes requests from a RabbitMQ queue, calls the Bitrix24 REST API, puts each answer into another queue.\nWithout a command it runs."

const settingsText = describeSettings("en")
  .map(({ name, standard, unit, meaning }) => {
    const value =
      standard === undefined ? "required" : standard === "" ? "none" : `${standard}${unit ? ` ${unit}` : ""}`
    return `  ${name} (${value}): ${meaning}`
  })
  .join("\n")

/** The tree of all commands. */
export const command = Command.make("B24RMQ", {}, () => run).pipe(
  Command.withDescription(`${about}\n\nSettings (environment):\n${settingsText}`),
  Command.withSubcommands([
    runCommand,
    checkCommand,
    ...commandsWith(webhookFlags),
    rejectedCommand,
    demoCommand,
    portalCommand,
    unitCommand
  ])
)

// Not --log-level, for which there is a setting, and not --wizard.
export const commandLine = CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] })
