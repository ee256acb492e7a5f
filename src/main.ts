import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Console, Effect, Exit, Layer, Runtime } from "effect"
import { Command } from "effect/cli"
import packaged from "../package.json" with { type: "json" }
import { command, commandLine } from "./command.ts"

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

// What these say is for a person as it stands: no stack, and before there is a log.
const spoken = ["SettingsWrong", "LinkFailed", "DemoFailed", "PortalFailed", "NoDaemon", "Refused"] as const

Command.run(command, { version: packaged.version }).pipe(
  Effect.tapErrorTag(spoken, (error) => Console.error(error.message)),
  Effect.provide(Layer.mergeAll(NodeServices.layer, commandLine)),
  NodeRuntime.runMain({ teardown })
)
