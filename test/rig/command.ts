import { type Bridge, program } from "./bridge.ts"
import { run } from "./child.ts"

/** Runs a command of the program that talks to this bridge; `env` is more of its environment. */
export const command = (
  { cwd }: Pick<Bridge, "cwd">,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
) => {
  const [first, ...before] = program()
  return run({
    command: first,
    args: [...before, ...args],
    env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: cwd, RUNTIME_DIRECTORY: cwd, ...env },
    cwd
  })
}
