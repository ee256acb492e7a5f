import { afterAll, beforeAll, expect, test } from "bun:test"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { build } from "../build.ts"
import { version } from "../package.json" with { type: "json" }
import { describeSettings } from "../src/settings.ts"

const packaging = join(import.meta.dir, "..", "packaging")
const packaged = (file: string) => readFileSync(join(packaging, file), "utf8")

let folder = ""
let dist = ""
const binary = () => join(dist, "B24RMQ")

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "b24rmq-built-"))
  dist = join(folder, "dist")
  await build({ all: false, dist })
}, 60_000)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Runs a command with nothing of our environment, and gives how it ended and all that it said. */
const run = (
  command: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly env?: Record<string, string> } = {}
) => {
  const ran = Bun.spawnSync([...command], {
    cwd: options.cwd ?? folder,
    env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...options.env },
    stdin: "ignore",
    timeout: 30_000
  })
  return { code: ran.exitCode, said: ran.stdout.toString() + ran.stderr.toString() }
}

/** Runs a command on a machine where the binary is installed as the units say, and gives what it said. */
const installed = (script: string) =>
  run([
    "unshare",
    "--mount",
    "/bin/sh",
    "-euc",
    `mount --bind "$1" /usr/local/bin; cd "$2"; ${script}`,
    "sh",
    dist,
    packaging
  ])

test("dist holds what is installed, and its sums", () => {
  expect(run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], { cwd: dist })).toEqual({ code: 0, said: "" })
  expect(run(["ls", dist]).said.trim().split("\n")).toEqual([
    "B24RMQ",
    "B24RMQ.1",
    "B24RMQ.bash",
    "B24RMQ.fish",
    "B24RMQ.zsh",
    "LICENSE",
    "SHA256SUMS",
    "b24rmq.dashboard.json",
    "b24rmq.env.example",
    "b24rmq.rules.yml",
    "b24rmq.service",
    "b24rmq@.service"
  ])
})

/** The paths of all commands, as `--help` lists them. */
const commands = (path: ReadonlyArray<string> = []): ReadonlyArray<string> => {
  const { said } = run([binary(), ...path, "--help"])
  const listed = said.split("SUBCOMMANDS\n")[1]?.split("\n\n")[0] ?? ""
  const names = [...listed.matchAll(/^ {2}([a-z]+)/gm)].map(([, name]) => name ?? "")
  const paths = names.map((name) => path.concat(name))
  return paths.flatMap((path) => [path.join(" ")].concat(commands(path)))
}

test("the man page tells of every command and setting, and man has nothing to say against it", () => {
  const page = join(dist, "B24RMQ.1")
  const all = commands()
  expect(all).toContain("rejected replay")
  const text = readFileSync(page, "utf8").replaceAll("\\-", "-")
  for (const name of all) expect(text).toContain(`.SS B24RMQ ${name} `)
  for (const { name } of describeSettings("en")) expect(text).toContain(`.B ${name}\n`)
  const warnings = "LC_ALL=C.UTF-8 MANROFFSEQ= man --warnings -l B24RMQ.1 2>&1 >/dev/null"
  expect(run(["sh", "-c", warnings], { cwd: dist })).toEqual({ code: 0, said: "" })
})

test("bash completes commands, their subcommands and flags", () => {
  const completed = (line: string) =>
    run(
      [
        "bash",
        "-c",
        `source B24RMQ.bash; COMP_LINE="$1"; COMP_WORDS=($1); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); COMP_POINT=\${#COMP_LINE}
         complete -p B24RMQ >/dev/null && _B24RMQ B24RMQ; echo "\${COMPREPLY[@]}"`,
        "bash",
        line
      ],
      { cwd: dist }
    ).said.trim()
  expect(completed("B24RMQ stat")).toBe("status")
  expect(completed("B24RMQ rejected rep")).toBe("replay")
  expect(completed("B24RMQ status --wat")).toContain("--watch")
})

test("the binary is an executable for x86-64 and glibc, and knows its version", () => {
  const head = readFileSync(binary()).subarray(0, 4096)
  expect(head.subarray(0, 5).toString("latin1")).toBe("\x7fELF\x02")
  expect(head.readUInt16LE(18)).toBe(0x3e)
  expect(head.toString("latin1")).toContain("/lib64/ld-linux-x86-64.so.2\0")
  const { code, said } = run([binary(), "--version"])
  expect(said).toContain(version)
  expect(code).toBe(0)
})

const emulator = Bun.which("qemu-x86_64-static") ?? Bun.which("qemu-x86_64")

test.skipIf(emulator === null)(
  "the binary runs on a processor without AVX2",
  () => {
    const { code, said } = run([emulator ?? "", "-cpu", "Nehalem", binary(), "--version"])
    expect(said).toContain(version)
    expect(code).toBe(0)
  },
  60_000
)

test("a hostile working directory changes nothing", () => {
  const cwd = join(folder, "hostile")
  mkdirSync(cwd)
  const hostile = 'require("node:fs").writeFileSync("was-here", ""); console.log("was-here")'
  const files = {
    "evil.js": hostile,
    "evil.ts": hostile,
    "bunfig.toml": 'preload = ["./evil.js"]\n[run]\npreload = ["./evil.js"]\n[test]\npreload = ["./evil.js"]\n',
    "tsconfig.json": '{ "compilerOptions": { "paths": { "effect": ["./evil.ts"], "amqplib": ["./evil.ts"] } } }',
    "package.json": '{ "name": "b24rmq", "version": "9.9.9", "type": "commonjs", "imports": { "#*": "./evil.js" } }'
  }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(cwd, name), text)
  for (const name of [".env", ".env.local", ".env.production", ".env.development", ".env.test"]) {
    writeFileSync(join(cwd, name), "AMPQURL=amqp://canary:canary@127.0.0.1:1/\nB24REST=https://canary.example/rest/\n")
  }
  const asked = run([binary(), "--version"], { cwd })
  expect(asked.said).toContain(version)
  expect(asked.said).not.toContain("9.9.9")
  // As a daemon it finds no settings and says so: those of the folder were never read.
  const started = run([binary()], { cwd, env: { NODE_ENV: "production" } })
  expect(started.said).toContain("AMPQURL")
  expect(started.said).not.toMatch(/canary|was-here/)
  expect(started.code).toBe(78)
  expect(existsSync(join(cwd, "was-here"))).toBe(false)
})

test("`unit` prints the unit that is packaged", () => {
  expect(run([binary(), "unit"])).toEqual({ code: 0, said: packaged("b24rmq.service") })
})

test("systemd finds nothing wrong with the units", () => {
  expect(installed("systemd-analyze verify *.service")).toEqual({ code: 0, said: "" })
})

test("systemd finds the services little exposed", () => {
  for (const unit of ["b24rmq.service", "b24rmq@.service"]) {
    const { said } = installed(`systemd-analyze security --offline=true --no-pager ${unit}`)
    const exposure = /Overall exposure level for \S+: ([\d.]+)/.exec(said)?.[1]
    expect(Number(exposure)).toBeLessThanOrEqual(2)
  }
})

test("the unit for several bridges differs from the other in names alone", () => {
  const several = packaged("b24rmq@.service")
  const lines = (text: string) => text.slice(text.indexOf("[Unit]")).replaceAll(/^#.*\n/gm, "")
  const named: Readonly<Record<string, string>> = {
    "User=b24rmq-%i\n": "",
    " (%i)": "",
    "/%i.env": "/b24rmq.env",
    "-%i": ""
  }
  expect(lines(several).replaceAll(/User=b24rmq-%i\n| \(%i\)|\/%i\.env|-%i/g, (name) => named[name] ?? name)).toBe(
    lines(packaged("b24rmq.service"))
  )
  // Two services that share a folder of state would take it from each other.
  expect(several.match(/^(State|Runtime)Directory=.*$/gm)).toEqual([
    "StateDirectory=b24rmq-%i",
    "RuntimeDirectory=b24rmq-%i"
  ])
})

test("the example of the settings names every setting with its default", () => {
  const example = packaged("b24rmq.env.example")
  const named = new Map([...example.matchAll(/^#?([A-Z0-9_]+)=(.*)$/gm)].map(([, name, value]) => [name ?? "", value]))
  for (const { name, standard } of describeSettings("en")) {
    // A secret may be shown where it is better kept.
    expect([name, named.has(name) || named.has(`${name}_FILE`)]).toEqual([name, true])
    // An empty default says nothing; there the example shows what such a value looks like.
    if (standard !== undefined && standard !== "") expect([name, named.get(name)]).toEqual([name, standard])
  }
  const known = new Set(describeSettings("en").map(({ name }) => name))
  for (const name of named.keys()) expect(known).toContain(name.replace(/_FILE$/, ""))
})
