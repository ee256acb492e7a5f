import { existsSync, readdirSync, readFileSync } from "node:fs"
import { cpus, release, totalmem } from "node:os"
import { join } from "node:path"
import { build } from "../build.ts"
import packaged from "../package.json" with { type: "json" }
import { binaryVariable } from "../test/rig/bridge.ts"
import { folderOfProcess } from "../test/rig/child.ts"

/** What ran where: stands at the head of what a bench writes. */
export interface Setting {
  readonly command: string
  readonly machine: string
  readonly versions: string
  readonly commit: string
  readonly date: string
}

const repository = join(import.meta.dir, "..")

/** What a command says in its first line, or undefined where there is no such command. */
export const says = (...command: ReadonlyArray<string>): string | undefined => {
  const [name = ""] = command
  if (Bun.which(name) === null) return undefined
  const { stdout, success } = Bun.spawnSync([...command], { cwd: repository, stderr: "ignore" })
  return success ? stdout.toString().trim().split("\n")[0] : undefined
}

/** The machine in a line. */
export const machine = (): string => {
  const [first] = cpus()
  const system = existsSync("/etc/os-release")
    ? /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1]
    : undefined
  return `${cpus().length} x ${first?.model ?? "?"}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${system ?? "?"}, Linux ${release()}`
}

const rabbit = () => {
  const lib = "/usr/lib/rabbitmq/lib"
  const found = existsSync(lib) ? readdirSync(lib).find((name) => name.startsWith("rabbitmq_server-")) : undefined
  return found?.replace("rabbitmq_server-", "") ?? "?"
}

/** The versions of what takes part, in a line. */
export const versions = (): string =>
  [
    `B24RMQ ${packaged.version}`,
    `Bun ${Bun.version}`,
    `RabbitMQ ${rabbit()}`,
    `effect ${packaged.dependencies.effect}`,
    `amqplib ${packaged.dependencies.amqplib}`
  ].join(", ")

/** The commit that is measured, and whether the sources differ from it. */
export const commit = (): string => {
  const hash = says("git", "rev-parse", "--short", "HEAD")
  if (hash === undefined) return "unknown"
  const changed = says("git", "status", "--porcelain", "src", "build.ts", "bun.lock")
  return changed ? `${hash}, changed` : hash
}

/** Measured is the compiled program: it is built unless the environment names one. */
export const buildOnce = async (): Promise<void> => {
  if (process.env[binaryVariable] !== undefined) return
  const dist = join(folderOfProcess("build"), "dist")
  await build({ all: false, dist })
  process.env[binaryVariable] = join(dist, "B24RMQ")
}
