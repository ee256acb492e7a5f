import { readFileSync, readdirSync } from "node:fs"
import { createInterface } from "node:readline"
import type { Readable } from "node:stream"
import { fileURLToPath } from "node:url"
import { type Duration, Effect, type Scope } from "effect"
import { type Ended, child, temporaryFolder } from "./child.ts"
import { RigFailed, until } from "./until.ts"

/** The environment variable by which the test run names the compiled binary. */
export const binaryVariable = "B24RMQ_TEST_BINARY"

/** How the program under test is started: the compiled binary, or the sources where it has not been built. */
export const program = (): readonly [string, ...ReadonlyArray<string>] => {
  const binary = process.env[binaryVariable]
  return binary === undefined
    ? [process.execPath, fileURLToPath(new URL("../../src/main.ts", import.meta.url))]
    : [binary]
}

export interface Line {
  readonly from: "stdout" | "stderr"
  readonly text: string
  /** The line as JSON, where it is an object. */
  readonly fields: Readonly<Record<string, unknown>> | undefined
  /** The field `event`. */
  readonly event: string | undefined
}

/** What to wait for: the name of an event, a pattern, or a predicate. */
export type Wanted = string | RegExp | ((line: Line) => boolean)

export interface Waiting {
  /** Looks at the lines from this number on; `mark()` gives one. All lines otherwise. */
  readonly after?: number
  readonly within?: Duration.Input
}

export interface Bridge {
  readonly pid: number
  /** Its working directory. */
  readonly cwd: string
  /** All lines that are kept, the oldest first. */
  readonly lines: () => ReadonlyArray<Line>
  /** Everything that it has said, for looking for what must not be in it. */
  readonly output: () => string
  /** The number of lines up to now. */
  readonly mark: () => number
  /** Waits for a line, and fails when the process ends before it came. */
  readonly waitForLine: (wanted: Wanted, waiting?: Waiting) => Effect.Effect<Line, RigFailed>
  /** Waits until it consumes; `after` a mark for the next time. */
  readonly consuming: (waiting?: Waiting) => Effect.Effect<Line, RigFailed>
  readonly kill: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Waits for the end of the process and of its output. */
  readonly exited: Effect.Effect<Ended>
  /** How it ended, or undefined while it runs. */
  readonly ended: () => Ended | undefined
  /** Resident memory in bytes. */
  readonly rss: () => number
  /** CPU time in seconds. */
  readonly cpu: () => number
  /** Open file descriptors. */
  readonly descriptors: () => number
}

export interface BridgeOptions {
  /** Its settings. Nothing else of our environment reaches it, but for PATH and a HOME of its own. */
  readonly env?: Readonly<Record<string, string>>
  readonly args?: ReadonlyArray<string>
  /** Its working directory; a new one otherwise. */
  readonly cwd?: string
  /** Another program than the one under test, and its first arguments. */
  readonly program?: readonly [string, ...ReadonlyArray<string>]
  /** Does not wait until it consumes. */
  readonly ready?: false
  /** How long it may take until it consumes. */
  readonly within?: Duration.Input
}

const keptLines = 50_000
// Linux counts CPU time in hundredths of a second, and memory in pages of four kilobytes, on all that we run on.
const ticksPerSecond = 100
const pageSize = 4_096

const parse = (from: Line["from"], text: string): Line => {
  let fields: Line["fields"]
  if (text.startsWith("{")) {
    try {
      fields = JSON.parse(text) as Readonly<Record<string, unknown>>
    } catch {
      // not JSON then
    }
  }
  const event = fields?.["event"]
  return { from, text, fields, event: typeof event === "string" ? event : undefined }
}

const matches = (wanted: Wanted, line: Line) =>
  typeof wanted === "string" ? line.event === wanted : wanted instanceof RegExp ? wanted.test(line.text) : wanted(line)

/** Starts the bridge in a clean environment and waits until it consumes. Killed when the scope closes. */
export const startBridge = (options: BridgeOptions = {}): Effect.Effect<Bridge, RigFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const cwd = options.cwd ?? (yield* temporaryFolder("bridge"))
    const [command, ...before] = options.program ?? program()
    const started = yield* child({
      command,
      args: [...before, ...(options.args ?? [])],
      cwd,
      env: {
        PATH: process.env["PATH"] ?? "/usr/bin:/bin",
        HOME: cwd,
        STATE_DIRECTORY: cwd,
        RUNTIME_DIRECTORY: cwd,
        B24RMQ_LOG: "json",
        ...options.env
      },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let lines: Array<Line> = []
    let dropped = 0
    const read = (from: Line["from"], stream: Readable | null) =>
      new Promise<void>((done) => {
        if (stream === null) return done()
        const reader = createInterface({ input: stream, crlfDelay: Infinity })
        reader.on("line", (text) => {
          lines.push(parse(from, text))
          if (lines.length < 2 * keptLines) return
          lines = lines.slice(keptLines)
          dropped += keptLines
        })
        reader.once("close", () => done())
      })
    const silent = Promise.all([read("stdout", started.process.stdout), read("stderr", started.process.stderr)])
    const output = () => lines.map(({ text }) => text).join("\n")
    const exited = Effect.tap(started.exited, () => Effect.promise(() => silent))
    const proc = (file: string) => {
      try {
        return readFileSync(`/proc/${started.pid}/${file}`, "utf8")
      } catch {
        return ""
      }
    }

    const waitForLine = (wanted: Wanted, waiting: Waiting = {}) =>
      Effect.suspend(() => {
        let at = waiting.after ?? 0
        const found = () => {
          for (; at < dropped + lines.length; at++) {
            const line = lines[at - dropped]
            if (line !== undefined && matches(wanted, line)) return line
          }
          return undefined
        }
        const told = (what: string) => new RigFailed({ what: `${what}. Its last words: ${output().slice(-3_000)}` })
        return Effect.raceFirst(
          Effect.mapError(
            until(`the bridge says ${String(wanted)}`, Effect.sync(found), {
              within: waiting.within ?? "20 seconds",
              every: "5 millis"
            }),
            (error) => told(error.message)
          ),
          Effect.flatMap(exited, ({ code, signal }) => {
            const line = found()
            return line === undefined
              ? Effect.fail(told(`the bridge ended (${signal ?? code}) before it said ${String(wanted)}`))
              : Effect.succeed(line)
          })
        )
      })

    const bridge: Bridge = {
      pid: started.pid,
      cwd,
      lines: () => lines,
      output,
      mark: () => dropped + lines.length,
      waitForLine,
      consuming: (waiting) => waitForLine("consuming", waiting),
      kill: started.kill,
      exited,
      ended: started.ended,
      rss: () => Number(proc("statm").split(" ")[1] ?? 0) * pageSize,
      cpu: () => {
        const fields = proc("stat").replace(/.*\) /s, "").split(" ")
        return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / ticksPerSecond
      },
      descriptors: () => {
        try {
          return readdirSync(`/proc/${started.pid}/fd`).length
        } catch {
          return 0
        }
      }
    }
    if (options.ready !== false) yield* bridge.consuming({ within: options.within ?? "20 seconds" })
    return bridge
  })
