import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Console, Effect, Exit, Layer, Option, Runtime } from "effect"
import { Command, Flag } from "effect/cli"
import packaged from "../package.json" with { type: "json" }
import unitText from "../packaging/b24rmq.service" with { type: "text" }
import { bridge } from "./bridge/bridge.ts"
import { Dispatch } from "./bridge/dispatch.ts"
import { tell } from "./events.ts"
import { Journal } from "./journal/journal.ts"
import { Portal } from "./portal/client.ts"
import { Connection, Dial } from "./queue/connection.ts"
import { Intake } from "./queue/intake.ts"
import { Outlet } from "./queue/outlet.ts"
import { Topology } from "./queue/topology.ts"
import { describeSettings, environment, Settings } from "./settings.ts"
import { announce } from "./watch/announce.ts"
import { layerLog } from "./watch/log.ts"
import { Systemd } from "./watch/systemd.ts"

const queue = Layer.mergeAll(Intake.layer, Outlet.layer).pipe(
  Layer.provideMerge(Topology.layer),
  Layer.provideMerge(Connection.layer)
)

const engine = Dispatch.layer.pipe(
  Layer.provideMerge(queue),
  Layer.provideMerge(Layer.mergeAll(Portal.layer, Journal.layerMemory))
)

/** The daemon. A missing setting is told in plain lines, before there is a log. */
const run = Effect.gen(function* () {
  yield* tell("starting", { version: packaged.version })
  yield* Effect.raceFirst(bridge, announce)
}).pipe(
  Effect.scoped,
  Effect.provide(Layer.mergeAll(engine, Systemd.layer)),
  Effect.ensuring(tell("stopped")),
  Effect.provide(Layer.mergeAll(layerLog, Dial.layer)),
  Effect.provide(Settings.layer),
  Effect.tapErrorTag("SettingsWrong", (error) => Console.error(error.message))
)

const demoFlags = {
  count: Flag.Int("requests").pipe(Flag.withDescription("How many requests to send"), Flag.withDefault(1_000)),
  user: Flag.String("user").pipe(
    Flag.withDescription("User id of a webhook, if B24REST names a real portal"),
    Flag.optional
  ),
  token: Flag.Redacted("token").pipe(Flag.withDescription("Secret of that webhook"), Flag.optional)
}

const demoCommand = Command.make("demo", demoFlags, ({ count, user, token }) =>
  Effect.gen(function* () {
    const { demo } = yield* Effect.promise(() => import("./sandbox/demo.ts"))
    const withLog = Layer.provideMerge(engine, layerLog)
    yield* demo(yield* environment, withLog, { count, webhook: Option.all({ user, token }) })
  }).pipe(Effect.tapErrorTag(["DemoFailed", "SettingsWrong"], (error) => Console.error(error.message)))
).pipe(
  Command.withDescription(
    "Send requests through the whole bridge, on an embedded broker and a simulated portal unless AMPQURL and B24REST are set"
  )
)

const settingsText = describeSettings("en")
  .map(({ name, standard, unit, meaning }) => {
    const value =
      standard === undefined ? "required" : standard === "" ? "none" : `${standard}${unit ? ` ${unit}` : ""}`
    return `  ${name} (${value}): ${meaning}`
  })
  .join("\n")

const command = Command.make("B24RMQ", {}, () => run).pipe(
  Command.withDescription(
    `Takes requests from a RabbitMQ queue, calls the Bitrix24 REST API, puts each answer into another queue.\nWithout a command it runs.\n\nSettings (environment):\n${settingsText}`
  ),
  Command.withSubcommands([
    Command.make("run", {}, () => run).pipe(Command.withDescription("Run the bridge (the same as no command)")),
    demoCommand,
    Command.make("unit", {}, () => Console.log(unitText.trimEnd())).pipe(
      Command.withDescription("Print the systemd unit")
    )
  ])
)

/** A stop on request is a success for systemd; everything else keeps its own code. */
const teardown: Runtime.Teardown = (exit, end) =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? end(0) : Runtime.defaultTeardown(exit, end)

// The first signal stops in good order, the second ends at once. A closed terminal is a signal to stop, too.
let asked = 0
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    if (++asked === 2) process.exit(1)
  })
}
process.on("SIGHUP", () => process.kill(process.pid, "SIGTERM"))

Command.run(command, { version: packaged.version }).pipe(
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ teardown })
)
