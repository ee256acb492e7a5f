import { expect } from "bun:test"
import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect } from "effect"
import { live } from "../effect.ts"
import { type BridgeOptions, startBridge } from "./bridge.ts"
import { temporaryFolder } from "./child.ts"
import { until } from "./until.ts"

/** A program that is started in place of the bridge. */
const standIn = (source: string, options: BridgeOptions = {}) =>
  Effect.gen(function* () {
    const script = join(yield* temporaryFolder("stand-in"), "main.ts")
    writeFileSync(script, source)
    return yield* startBridge({ ...options, program: [process.execPath, script] })
  })

live("the bridge has a clean environment and a folder of its own, and its lines are read as they come", () =>
  Effect.gen(function* () {
    process.env["B24RMQ_LEAKED"] = "from the test process"
    const bridge = yield* standIn(
      `process.on("SIGHUP", () => console.log(JSON.stringify({ event: "consuming", again: true })))
      console.log("not json"); console.error(JSON.stringify({ event: "consuming", environment: process.env, cwd: process.cwd() }))
      setInterval(() => {}, 1000)`,
      { env: { AMPQIN: "in" } }
    )
    delete process.env["B24RMQ_LEAKED"]
    const { fields, from } = yield* bridge.consuming()
    expect(from).toBe("stderr")
    expect(fields?.["cwd"]).toBe(bridge.cwd)
    expect(fields?.["environment"]).toEqual({
      AMPQIN: "in",
      B24RMQ_LOG: "json",
      HOME: bridge.cwd,
      PATH: process.env["PATH"],
      RUNTIME_DIRECTORY: bridge.cwd,
      STATE_DIRECTORY: bridge.cwd
    })
    yield* bridge.waitForLine(/^not json$/)
    const mark = bridge.mark()
    yield* bridge.kill("SIGHUP")
    expect((yield* bridge.consuming({ after: mark })).fields?.["again"]).toBe(true)
    expect(bridge.rss()).toBeGreaterThan(10_000_000)
    expect(bridge.descriptors()).toBeGreaterThan(3)
    expect(bridge.cpu()).toBeGreaterThanOrEqual(0)
    expect(bridge.ended()).toBeUndefined()
    yield* bridge.kill("SIGKILL")
    expect(yield* bridge.exited).toEqual({ code: null, signal: "SIGKILL" })
  })
)

live("a bridge that ends, or that does not say what is waited for, is told with its last words", () =>
  Effect.gen(function* () {
    const failed = yield* Effect.flip(standIn(`console.log("I cannot"); process.exit(78)`))
    expect(failed.message).toBe("the bridge ended (78) before it said consuming. Its last words: I cannot")
    const bridge = yield* standIn(`console.log("waiting"); setInterval(() => {}, 1000)`, { ready: false })
    yield* bridge.waitForLine(({ text }) => text === "waiting")
    const silent = yield* Effect.flip(bridge.waitForLine("never", { within: "50 millis" }))
    expect(silent.message).toBe("not within 50ms: the bridge says never. Its last words: waiting")
  })
)

live("a bridge and what it has started are gone with the scope", () =>
  Effect.gen(function* () {
    const { pid, other, cwd } = yield* Effect.scoped(
      Effect.gen(function* () {
        const bridge = yield* standIn(
          `console.log(JSON.stringify({ event: "consuming", pid: Bun.spawn(["sleep", "1000"]).pid }))`
        )
        const { fields } = yield* bridge.consuming()
        return { pid: bridge.pid, other: Number(fields?.["pid"]), cwd: bridge.cwd }
      })
    )
    const runs = (pid: number) => existsSync(`/proc/${pid}/exe`)
    yield* until(
      "both are gone",
      Effect.sync(() => !runs(pid) && !runs(other))
    )
    expect(existsSync(cwd)).toBe(false)
  })
)
