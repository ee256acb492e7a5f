import { expect } from "bun:test"
import { Effect } from "effect"
import { readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { type Bridge, program, startBridge } from "../rig/bridge.ts"
import { run } from "../rig/child.ts"
import { collector, declareQueues, publishAll, queueRequest } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"

const scene = Effect.fnUntraced(function* (env: Readonly<Record<string, string>> = {}) {
  const broker = yield* vhost
  const portal = yield* openPortal()
  yield* declareQueues(broker.url, { in: "bitrix24in", out: "bitrix24out" })
  const answers = yield* collector(broker.url, "bitrix24out")
  const settings = { AMPQURL: broker.url, B24REST: portal.url, ...env }
  return { broker, portal, answers, settings }
})

/** Runs a command of the program against a bridge. */
const command = Effect.fnUntraced(function* (bridge: Bridge, ...args: ReadonlyArray<string>) {
  const [first, ...before] = program()
  const env = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: bridge.cwd, RUNTIME_DIRECTORY: bridge.cwd }
  return yield* run({ command: first, args: [...before, ...args], env, cwd: bridge.cwd })
})

live("status, find, call and diag talk to the running bridge over its socket", () =>
  Effect.gen(function* () {
    const { settings, broker, answers } = yield* scene()
    const bridge = yield* startBridge({ env: settings })
    const { fields } = yield* bridge.waitForLine("socket-open")
    const socket = String(fields?.["socket"])
    console.log(socket, (statSync(socket).mode & 0o777).toString(8))
    const status = yield* command(bridge, "status")
    console.log(status)
    console.log(yield* command(bridge, "call", "crm.deal.list", "filter.ID=5", "--user", "1", "--token", "sandbox"))
    console.log(yield* command(bridge, "find", "nothing"))
    console.log(yield* command(bridge, "diag"))
    console.log(yield* command(bridge, "set", "rate=2/50"))
    console.log(yield* command(bridge, "set", "rate=fast"))
    console.log(yield* command(bridge, "pause"))
    console.log(yield* command(bridge, "status"))
    console.log(yield* command(bridge, "resume"))
    console.log((yield* command(bridge, "status", "--json")).out.length)
    console.log(bridge.output())
  })
)
