import { chmodSync, chownSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { Effect, type Scope } from "effect"
import { type Child, run, startChild, temporaryFolder } from "./child.ts"
import { freePort } from "./ports.ts"
import { RigFailed, until } from "./until.ts"

/** A PostgreSQL server of one's own. */
export interface Postgres {
  readonly port: number
  /** Address of a new, empty database. */
  readonly database: Effect.Effect<string, RigFailed>
  /** Runs a statement in a database and gives what psql prints, unaligned and without heads. */
  readonly psql: (url: string, statement: string) => Effect.Effect<string, RigFailed>
  readonly start: Effect.Effect<void, RigFailed>
  /** Ends every session at once, as a restart for an upgrade does. */
  readonly stopFast: Effect.Effect<void>
  /** Kills the server and all its sessions. */
  readonly kill9: Effect.Effect<void, RigFailed>
  readonly log: () => string
}

const versions = "/usr/lib/postgresql"

const installed = () =>
  existsSync(versions)
    ? readdirSync(versions)
        .toSorted((a, b) => Number(b) - Number(a))
        .map((version) => join(versions, version, "bin"))
        .find((bin) => existsSync(join(bin, "postgres")))
    : undefined

/** The server refuses to run as root: there it runs as the user that its package has created. */
const unprivileged = () => {
  if (process.getuid?.() !== 0) return undefined
  const entry = /^postgres:[^:]*:(\d+):(\d+):/m.exec(readFileSync("/etc/passwd", "utf8"))
  return entry === null ? undefined : { uid: Number(entry[1]), gid: Number(entry[2]) }
}

/** Each session is a process with a group of its own, which outlives a killed server for a moment. */
const childrenOf = (parent: number) =>
  readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0 && parentOf(pid) === parent)

const parentOf = (pid: number) => {
  try {
    return Number(readFileSync(`/proc/${pid}/stat`, "utf8").replace(/.*\) /s, "").split(" ")[1])
  } catch {
    return undefined
  }
}

const killAtOnce = (pid: number) => {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // it has gone already
  }
}

const environment = { PATH: "/usr/local/bin:/usr/bin:/bin", LANG: "C.UTF-8", TZ: "UTC" }

/** The version that is installed, as `15.14`. */
export const postgresVersion: Effect.Effect<string, RigFailed> = Effect.suspend(() => {
  const bin = installed()
  if (bin === undefined) return Effect.fail(new RigFailed({ what: "postgresql is not installed" }))
  return Effect.map(
    run({ command: join(bin, "postgres"), args: ["--version"], env: environment, cwd: "/" }),
    ({ out }) => /\d+(?:\.\d+)*/.exec(out)?.[0] ?? out.trim()
  )
})

/** A server in a temporary folder, ready when given, killed when the scope closes. `conf`: lines for postgresql.conf. */
export const startPostgres = (conf: ReadonlyArray<string> = []): Effect.Effect<Postgres, RigFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const bin = installed()
    if (bin === undefined) return yield* new RigFailed({ what: "postgresql is not installed" })
    const folder = yield* temporaryFolder("postgres")
    const user = unprivileged()
    const data = join(folder, "data")
    mkdirSync(data, { mode: 0o700 })
    if (user !== undefined) {
      chownSync(data, user.uid, user.gid)
      // The folders above it belong to root alone.
      for (const above of [folder, join(folder, "..")]) chmodSync(above, 0o711)
    }
    const asUser = (command: string, args: ReadonlyArray<string>) =>
      user === undefined
        ? { command: join(bin, command), args }
        : {
            command: "setpriv",
            args: [`--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups", join(bin, command), ...args]
          }
    const made = yield* run({
      ...asUser("initdb", ["-D", data, "-U", "rig", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]),
      env: environment,
      cwd: data
    })
    if (made.code !== 0) return yield* new RigFailed({ what: `initdb: ${made.err}` })
    const port = yield* freePort
    const output = join(folder, "output")
    const settings = [`listen_addresses=127.0.0.1`, `port=${port}`, "unix_socket_directories=", ...conf]
    let server: Child | undefined
    const begun = Effect.uninterruptible(
      Effect.gen(function* () {
        if (server !== undefined && server.ended() === undefined) return
        server = yield* Effect.acquireUseRelease(
          Effect.sync(() => openSync(output, "a")),
          (fd) =>
            startChild({
              ...asUser("postgres", ["-D", data, ...settings.flatMap((setting) => ["-c", setting])]),
              env: environment,
              cwd: data,
              stdio: ["ignore", fd, fd]
            }),
          (fd) => Effect.sync(() => closeSync(fd))
        )
      })
    )
    const urlOf = (database: string) => `postgres://rig@127.0.0.1:${port}/${database}`
    const psql = (url: string, statement: string) =>
      run({ command: join(bin, "psql"), args: ["-XAtq", "-c", statement, url], env: environment, cwd: "/" }).pipe(
        Effect.flatMap(({ code, out, err }) =>
          code === 0 ? Effect.succeed(out.trim()) : Effect.fail(new RigFailed({ what: `psql: ${err.trim()}` }))
        )
      )
    const log = () => readFileSync(output, "utf8")
    const answers = Effect.orElseSucceed(Effect.as(psql(urlOf("postgres"), "SELECT 1"), true), () => false)
    const start = Effect.andThen(begun, until("PostgreSQL answers", answers, { within: "30 seconds" })).pipe(
      Effect.mapError((error) => new RigFailed({ what: `${error.what}: ${log().slice(-2_000)}` })),
      Effect.asVoid
    )
    const withServer = <E>(act: (server: Child) => Effect.Effect<unknown, E>): Effect.Effect<void, E> =>
      Effect.suspend(() => (server === undefined ? Effect.void : Effect.asVoid(act(server))))
    const kill9 = withServer((server) =>
      Effect.gen(function* () {
        const sessions = childrenOf(server.pid)
        yield* server.destroy
        for (const pid of sessions) killAtOnce(pid)
        yield* until(
          "the sessions are gone",
          Effect.sync(() => sessions.every((pid) => !existsSync(`/proc/${pid}/exe`)))
        )
      })
    )
    yield* Effect.addFinalizer(() => Effect.ignore(kill9))
    yield* start
    let databases = 0
    return {
      port,
      database: Effect.suspend(() => {
        const name = `journal${++databases}`
        return Effect.as(psql(urlOf("postgres"), `CREATE DATABASE ${name}`), urlOf(name))
      }),
      psql,
      start,
      stopFast: withServer((server) => Effect.andThen(server.kill("SIGINT"), server.exited)),
      kill9,
      log
    }
  })
