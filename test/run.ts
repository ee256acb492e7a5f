/**
 * All tests, with what they need: `bun test/run.ts`, or with arguments for `bun test` such as a file or `-t name`.
 * On a Debian machine and as root it installs what is missing. The last line it prints is the count.
 */
import { chmodSync, existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect } from "effect"
import { build } from "../build.ts"
import { binaryVariable } from "./rig/bridge.ts"
import { child, temporaryFolder } from "./rig/child.ts"
import { brokerVariable, startNode } from "./rig/rabbit.ts"
import { RigFailed } from "./rig/until.ts"

const repository = join(import.meta.dir, "..")

/** A folder that holds something whose name begins so. */
const holds = (folder: string, beginning: string) =>
  existsSync(folder) && readdirSync(folder).some((name) => name.startsWith(beginning))

/** What the tests need of the machine, by the Debian package that brings it. */
const needed: Readonly<Record<string, () => boolean>> = {
  "rabbitmq-server": () => holds("/usr/lib/rabbitmq/lib", "rabbitmq_server-"),
  "php-cli": () => Bun.which("php") !== null,
  postgresql: () =>
    existsSync("/usr/lib/postgresql") &&
    readdirSync("/usr/lib/postgresql").some((version) => existsSync(`/usr/lib/postgresql/${version}/bin/postgres`)),
  systemd: () => existsSync("/lib/systemd/systemd"),
  "man-db": () => Bun.which("man") !== null,
  chromium: () => Bun.which("chromium") !== null,
  prometheus: () => Bun.which("promtool") !== null,
  "qemu-user-static": () => (Bun.which("qemu-x86_64-static") ?? Bun.which("qemu-x86_64")) !== null
}

const missing = () => Object.keys(needed).filter((name) => !needed[name]?.())

const isRoot = process.getuid?.() === 0
const isDebian = existsSync("/etc/debian_version") && Bun.which("apt-get") !== null

// Debian starts the services of a package when it installs it, unless this script says no (101).
const policy = "/usr/sbin/policy-rc.d"

/** For the time of the scope no service is started by an installation; whatever stood there is put back. */
const servicesStayDown = Effect.acquireRelease(
  Effect.sync(() => {
    const before = existsSync(policy) ? { text: readFileSync(policy), mode: statSync(policy).mode } : undefined
    writeFileSync(policy, "#!/bin/sh\nexit 101\n")
    chmodSync(policy, 0o755)
    return before
  }),
  (before) =>
    Effect.sync(() => {
      if (before === undefined) return rmSync(policy, { force: true })
      writeFileSync(policy, before.text)
      chmodSync(policy, before.mode)
    })
)

const apt = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  const env = { ...(process.env as Record<string, string>), DEBIAN_FRONTEND: "noninteractive" }
  const options = ["-qq", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"]
  // Its output goes to stderr: what this run says on stdout is the tests'.
  const { exited } = yield* child({
    command: "apt-get",
    args: [...options, ...args],
    env,
    cwd: "/",
    stdio: ["ignore", 2, 2]
  })
  const { code } = yield* exited
  if (code !== 0) return yield* new RigFailed({ what: `apt-get ${args.join(" ")} ended with ${code}` })
})

const prepareMachine = Effect.gen(function* () {
  const names = missing()
  if (names.length === 0) return
  if (!isRoot || !isDebian) {
    return yield* new RigFailed({
      what: `the tests need ${names.join(", ")}: install ${names.length > 1 ? "these" : "it"}, or run them as root on Debian`
    })
  }
  console.error(`installing ${names.join(", ")}`)
  yield* servicesStayDown
  yield* apt("update")
  yield* apt("install", "--yes", "--no-install-recommends", ...names)
  const still = missing()
  if (still.length > 0) return yield* new RigFailed({ what: `installed, and yet not there: ${still.join(", ")}` })
}).pipe(Effect.scoped)

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

/** The sums that `bun test` writes into the first element of its report; nothing where it did not come to that. */
const countsOf = (report: string, code: number | null): Counts => {
  const head = existsSync(report) ? (/<testsuites [^>]*>/.exec(readFileSync(report, "utf8"))?.[0] ?? "") : ""
  const sum = (name: string) => Number(new RegExp(` ${name}="(\\d+)"`).exec(head)?.[1] ?? 0)
  const failures = sum("failures")
  const skipped = sum("skipped")
  // A file that cannot be loaded and an error between two tests are in no report: there is only the exit code.
  const failed = failures === 0 && code !== 0 ? 1 : failures
  return { passed: Math.max(0, sum("tests") - failures - skipped), failed, skipped }
}

/** Most of the tests wait for something most of the time: two files at once. The nodes they break are their process's own. */
const halves = ["--parallel=2", "--no-isolate"]

const test = (args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    yield* prepareMachine
    const folder = yield* temporaryFolder("run")
    const dist = join(folder, "dist")
    yield* Effect.tryPromise({
      try: () => build({ all: false, dist }),
      catch: (cause) => new RigFailed({ what: "the binary cannot be built", cause })
    })
    const node = yield* startNode()
    const report = join(folder, "report.xml")
    const tests = yield* child({
      command: process.execPath,
      args: ["test", "--timeout", "60000", ...halves, "--reporter=junit", `--reporter-outfile=${report}`, ...args],
      env: {
        ...(process.env as Record<string, string>),
        [binaryVariable]: join(dist, "B24RMQ"),
        [brokerVariable]: JSON.stringify(node.address)
      },
      cwd: repository,
      stdio: ["ignore", 1, 2]
    })
    const { code } = yield* tests.exited
    return countsOf(report, code)
  }).pipe(Effect.scoped)

const args = process.argv.slice(2)
let counts: Counts = { passed: 0, failed: 1, skipped: 0 }
// The last line, however this ends: the build ends the process by itself when it fails.
process.once("exit", () => {
  const { passed, failed, skipped } = counts
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`)
})
counts = await Effect.runPromise(
  test(args).pipe(
    Effect.catch((error) => {
      console.error(error.message)
      return Effect.succeed(counts)
    })
  )
)
// On a machine where everything could be installed nothing has an excuse, unless it was left out by an argument.
const maySkip = !(isRoot && isDebian) || args.length > 0
process.exit(counts.failed === 0 && counts.passed > 0 && (counts.skipped === 0 || maySkip) ? 0 : 1)
