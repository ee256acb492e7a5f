import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import { child } from "../rig/child.ts"
import { until } from "../rig/until.ts"

const program = fileURLToPath(new URL("process.ts", import.meta.url))

/** Another process with the journal at a place, killed when the scope closes. */
export const otherProcess = (place: string) =>
  Effect.gen(function* () {
    const started = yield* child({
      command: process.execPath,
      args: [program, place],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/",
      stdio: ["pipe", "pipe", 2]
    })
    let said = ""
    started.process.stdout?.setEncoding("utf8").on("data", (text: string) => (said += text))
    /** Lines that are complete. */
    const lines = () => said.split("\n").slice(0, -1)
    const waitFor = (line: string, after = 0) =>
      until(
        `the other process says ${line} (it said ${lines().slice(-3).join("; ")})`,
        Effect.sync(() => lines().indexOf(line, after) >= 0)
      )
    /** Gives it a command and returns how that ended. */
    const ask = (command: string) =>
      Effect.gen(function* () {
        const before = lines().length
        started.process.stdin?.write(`${command}\n`)
        const beginning = `${command} `
        const line = yield* until(
          `the other process answers ${command}`,
          Effect.sync(() =>
            lines()
              .slice(before)
              .find((line) => line.startsWith(beginning))
          )
        )
        return line.slice(beginning.length)
      })
    const go = Effect.sync(() => void started.process.stdin?.write("go\n"))
    return { ...started, lines, waitFor, ask, go }
  })
