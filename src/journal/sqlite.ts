import { Clock, Effect, Exit, Scope } from "effect"
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readdirSync, renameSync, statSync } from "node:fs"
import { basename, dirname } from "node:path"
import { tell } from "../events.ts"
import { standBy } from "../schedules.ts"
import { type Dialect, migrate, noteLoss, type Run, storeOn, transaction } from "./sql.ts"
import { type Open, type Opening, StoreFailed } from "./store.ts"

const dialect: Dialect = {
  // A third faster than json_each, which parses each element again for each column.
  elements: "jsonb_each($1)",
  unhex: (text) => `unhex(${text})`,
  bytes: "BLOB",
  key: "TEXT"
}

const full = "the disk is full: free some space"
const readOnly = "the file or its folder may not be written: check their rights, and the mount"

/** What a person can do about it, by the code of SQLite or of the system. */
const said: Readonly<Record<string, string>> = {
  SQLITE_FULL: full,
  ENOSPC: full,
  EDQUOT: full,
  SQLITE_READONLY: readOnly,
  EROFS: readOnly,
  EACCES: readOnly,
  EPERM: readOnly,
  SQLITE_PERM: "the file may not be opened: check its rights",
  SQLITE_CANTOPEN: "the file cannot be opened: check that its folder exists, and its rights",
  SQLITE_BUSY: "another program has the file open: close it there"
}

const damage = new Set(["SQLITE_CORRUPT", "SQLITE_NOTADB"])

/** The primary code: SQLITE_READONLY of SQLITE_READONLY_DIRECTORY. */
const codeOf = (cause: unknown) => {
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""
  return /^[A-Z]+_[A-Z]+/.exec(code)?.[0] ?? code
}

const failure = (file: string, cause: unknown) =>
  new StoreFailed({
    reason: `${file}: ${said[codeOf(cause)] ?? String(cause instanceof Error ? cause.message : cause)}`,
    code: codeOf(cause)
  })

/**
 * A journal in a file, and beside it one that is locked by whoever writes the journal: the kernel lets go of it when the
 * process ends, however it ends. It is empty, so that it can neither be damaged nor full, and a journal can be set aside
 * under its protection. The journal itself is locked, too, which spares it a third file (sqlite.org/wal.html, section 8).
 */
export const openSqlite = (file: string): Open => {
  // Found while the journal was in use; the next who opens it sets it aside.
  let damaged = false

  const connect = Effect.fnUntraced(function* (path: string) {
    const sql = yield* Effect.acquireRelease(
      Effect.try({
        try: () => {
          createPrivate(path)
          return new Bun.SQL({ adapter: "sqlite", filename: path, create: false, readwrite: true })
        },
        catch: (cause) => failure(path, cause)
      }),
      (sql) => Effect.ignore(Effect.tryPromise(() => sql.close()))
    )
    const run: Run = (statement, values = []) =>
      Effect.tryPromise({
        try: () => sql.unsafe<ReadonlyArray<Record<string, unknown>>>(statement, [...values]),
        catch: (cause) => {
          if (damage.has(codeOf(cause))) damaged = true
          return failure(path, cause)
        }
      })
    return run
  })

  const lock = Effect.fnUntraced(function* ({ waiting }: Opening) {
    const run = yield* connect(`${file}.lock`)
    // No fourth file: in this one nothing is ever written.
    yield* Effect.andThen(run("PRAGMA journal_mode = MEMORY"), run("BEGIN EXCLUSIVE")).pipe(
      Effect.tapError(({ code }) => (code === "SQLITE_BUSY" ? waiting : Effect.void)),
      Effect.retry({ schedule: standBy, while: ({ code }) => code === "SQLITE_BUSY" })
    )
  })

  const open = Effect.gen(function* () {
    // An empty file is what is left of one that was cut: a new one is empty for no longer than it takes to open it.
    damaged ||= existsSync(file) && statSync(file).size === 0
    if (damaged) return yield* new StoreFailed({ reason: `${file} is damaged` })
    const run = yield* connect(file)
    yield* run("PRAGMA locking_mode = EXCLUSIVE")
    yield* run("PRAGMA journal_mode = WAL")
    yield* run("PRAGMA synchronous = FULL")
    yield* run("PRAGMA journal_size_limit = 16777216")
    const [{ user_version: version } = {}] = yield* run("PRAGMA user_version")
    const before = Number(version)
    yield* transaction(
      run,
      "BEGIN IMMEDIATE",
      Effect.gen(function* () {
        const now = yield* migrate(run, dialect, before)
        // Told by the files: the process may have ended between setting one aside and beginning the next.
        if (before === 0 && wasSetAside(file)) yield* noteLoss(run, yield* Clock.currentTimeMillis)
        yield* run(`PRAGMA user_version = ${now}`)
      })
    )
    const pages =
      "SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)"
    return storeOn(run, dialect, {
      begin: "BEGIN IMMEDIATE",
      guard: Effect.void,
      beat: Effect.void,
      size: Effect.map(run(`${pages} AS pages, page_size FROM pragma_page_size`), ([row]) => {
        return Number(row?.["pages"]) * Number(row?.["page_size"])
      })
    })
  })

  const setAside = Effect.gen(function* () {
    const now = new Date(yield* Clock.currentTimeMillis).toISOString().replace(/[:.]/g, "-")
    const aside = `${file}.damaged-${now}`
    yield* Effect.try({
      try: () => {
        for (const end of ["", "-wal"]) if (existsSync(file + end)) renameSync(file + end, aside + end)
      },
      catch: (cause) => failure(file, cause)
    })
    damaged = false
    yield* tell("journal-damaged", { file: aside })
  })

  return (opening) =>
    Effect.gen(function* () {
      yield* Effect.try({
        try: () => mkdirSync(dirname(file), { recursive: true, mode: 0o700 }),
        catch: (cause) => failure(file, cause)
      })
      yield* lock(opening)
      return yield* Effect.catch(closedAtOnce(open), (error) =>
        damaged ? Effect.andThen(setAside, open) : Effect.fail(error)
      )
    })
}

/** Closes what was opened when it comes to nothing: SQLite removes files by name, which may be the next one's by then. */
const closedAtOnce = <A, E>(opening: Effect.Effect<A, E, Scope.Scope>) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    return yield* opening.pipe(
      Scope.provide(scope),
      Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
    )
  })

const wasSetAside = (file: string) =>
  readdirSync(dirname(file)).some((name) => name.startsWith(`${basename(file)}.damaged-`))

/**
 * Creates the file for its owner alone; SQLite gives those beside it the same mode. A file that exists is not opened: to
 * close it again would give up the locks that this process has on it (sqlite.org/howtocorrupt.html, section 2.2).
 */
const createPrivate = (path: string) => {
  if (!existsSync(path)) closeSync(openSync(path, "wx", 0o600))
  else if ((statSync(path).mode & 0o777) !== 0o600) chmodSync(path, 0o600)
}
