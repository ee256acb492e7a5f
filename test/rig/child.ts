import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { appendFileSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Duration, Effect } from "effect"
import { RigFailed } from "./until.ts"

// Whatever way the test process ends (a failed test, SIGINT, SIGKILL), its end of the guard's pipe closes. Then the
// guard kills the process groups which are written down and removes the folder. The start time beside a process id
// keeps it from hitting a stranger who was given the same number later.
const guardScript = `folder=$1
cat >/dev/null
while read -r pid born; do
  set -- $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null)
  [ "\${20:-}" = "$born" ] && kill -s KILL -- "-$pid"
done < "$folder/children"
rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }`

// The guard is started from a shell that ends at once, so that it is no child of this process: when a test exceeds its
// time, `bun test` kills every child, and those that are started later would have no guard. Hence a named pipe.
const startScript = `mkfifo "$2/alive" && { setsid sh -c "$1" guard "$2" <"$2/alive" >/dev/null 2>&1 & }`

let folder: string | undefined

/** The folder of this process, guarded from the first use on. */
const guarded = () => {
  if (folder !== undefined) return folder
  folder = mkdtempSync(join(tmpdir(), "b24rmq-rig-"))
  appendFileSync(join(folder, "children"), "")
  spawnSync("/bin/sh", ["-c", startScript, "start", guardScript, folder], { cwd: "/", stdio: "ignore" })
  openSync(join(folder, "alive"), "w") // never closed but by the end of this process
  return folder
}

/** When the process was started, in ticks of the kernel, or undefined where it is gone. */
const born = (pid: number) => {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8").replace(/.*\) /s, "").split(" ")[19]
  } catch {
    return undefined
  }
}

let folders = 0

/** A new folder that goes away with this process. */
export const folderOfProcess = (name: string) => {
  const path = join(guarded(), `${name}-${++folders}`)
  mkdirSync(path)
  return path
}

/** A new folder that goes away with the scope. */
export const temporaryFolder = (name: string) =>
  Effect.acquireRelease(
    Effect.sync(() => folderOfProcess(name)),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 }))
  )

/** How a process ended: by itself with a code, or by a signal. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Child {
  readonly pid: number
  readonly process: ChildProcess
  /** Waits for the end of the process. */
  readonly exited: Effect.Effect<Ended>
  /** How it ended, or undefined while it runs. */
  readonly ended: () => Ended | undefined
  /** Sends the signal to the process alone. */
  readonly kill: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Kills the process and what it started, and waits for its end. */
  readonly destroy: Effect.Effect<void>
}

export interface Start {
  readonly command: string
  readonly args?: ReadonlyArray<string>
  /** The whole environment: nothing of ours is inherited. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  readonly stdio: ["ignore" | "pipe", number | "pipe" | "ignore", number | "pipe" | "ignore"]
}

const signalTo = (pid: number, signal: NodeJS.Signals) => {
  try {
    process.kill(pid, signal)
  } catch {
    // it has gone already
  }
}

/** Starts a process in a group of its own. The caller destroys it; if it never gets to, the guard does. */
export const startChild = (start: Start) =>
  Effect.tryPromise({
    try: () =>
      new Promise<Child>((done, failed) => {
        guarded()
        const child = spawn(start.command, start.args ?? [], {
          env: start.env,
          cwd: start.cwd,
          stdio: start.stdio,
          detached: true
        })
        child.once("error", failed)
        const pid = child.pid
        if (pid === undefined) return
        appendFileSync(join(guarded(), "children"), `${pid} ${born(pid) ?? ""}\n`)
        let ended: Ended | undefined
        const end = new Promise<Ended>((resolve) => {
          child.once("exit", (code, signal) => resolve((ended = { code, signal })))
        })
        const exited = Effect.promise(() => end)
        const kill = (signal: NodeJS.Signals) => Effect.sync(() => ended ?? signalTo(pid, signal))
        const destroy = Effect.suspend(() => {
          if (ended !== undefined) return Effect.void
          signalTo(-pid, "SIGKILL")
          return Effect.asVoid(exited)
        })
        done({ pid, process: child, exited, ended: () => ended, kill, destroy })
      }),
    catch: (cause) => new RigFailed({ what: `${start.command} did not start`, cause })
  })

/** A process that is killed when the scope closes. */
export const child = (start: Start) => Effect.acquireRelease(startChild(start), (child) => child.destroy)

export interface Finished extends Ended {
  readonly out: string
  readonly err: string
}

/** Runs a command to its end and gives all that it said. A command that takes too long is killed. */
export const run = (
  start: Omit<Start, "stdio"> & { readonly input?: string; readonly within?: Duration.Input }
): Effect.Effect<Finished, RigFailed> =>
  Effect.gen(function* () {
    const { process, exited } = yield* child({ ...start, stdio: ["pipe", "pipe", "pipe"] })
    const said = { out: "", err: "" }
    const closed = new Promise<void>((done) => process.once("close", () => done()))
    process.stdout?.setEncoding("utf8").on("data", (text: string) => (said.out += text))
    process.stderr?.setEncoding("utf8").on("data", (text: string) => (said.err += text))
    process.stdin?.on("error", () => undefined)
    process.stdin?.end(start.input ?? "")
    const ended = yield* exited
    yield* Effect.promise(() => closed)
    return { ...ended, ...said }
  }).pipe(
    Effect.scoped,
    Effect.timeoutOrElse({
      duration: start.within ?? "30 seconds",
      orElse: () => Effect.fail(new RigFailed({ what: `${start.command} ${(start.args ?? []).join(" ")} hangs` }))
    })
  )
