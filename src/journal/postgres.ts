import { Effect, Redacted } from "effect"
import { standBy } from "../schedules.ts"
import type { Place } from "./place.ts"
import { type Dialect, migrate, storeOn, transaction } from "./sql.ts"
import { type Open, StoreFailed } from "./store.ts"

const dialect: Dialect = {
  elements: "jsonb_array_elements($1::text::jsonb) AS element(value)",
  unhex: (text) => `decode(${text}, 'hex')`,
  bytes: "BYTEA",
  key: `TEXT COLLATE "C"`
}

/**
 * After so long without a word from its holder the server ends the session, and with it the lock: a frozen process
 * answers on the level of TCP for ever. Several times the pause between two beats.
 */
const lease = 10_000

/** A server that is silent for so long counts as gone. Longer than it lets a statement run. */
const patience = lease + 5_000

/** How long a stop waits for the server. */
const farewell = 2_000

/**
 * What a row takes besides the body, in bytes: with its index entries and its two dead versions, which stay until the
 * server's own vacuum. Measured over 100,000 rows (bench/journal.ts).
 */
const rowBytes = 900

/**
 * A journal in a PostgreSQL schema of its own. One session does everything and holds an advisory lock while it lives. Each
 * holder has an epoch, and every transaction looks whether it is still the holder's: a lock is no proof behind a pool
 * that shares sessions.
 */
export const openPostgres =
  ({ url, schema }: Extract<Place, { _tag: "Database" }>): Open =>
  ({ waiting }) =>
    Effect.gen(function* () {
      const session = yield* connect(url)
      const run = (statement: string, values: ReadonlyArray<unknown> = []) =>
        Effect.tryPromise({
          try: () => heard(session.unsafe<ReadonlyArray<Record<string, unknown>>>(statement, [...values])),
          catch: failure
        })

      const tryLock = Effect.map(
        run("SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS held", [schema]),
        ([row]) => row?.["held"] === true
      )
      yield* tryLock.pipe(
        Effect.tap((held) => (held ? Effect.void : waiting)),
        Effect.repeat({ schedule: standBy, until: (held) => held })
      )

      yield* run(`CREATE SCHEMA IF NOT EXISTS "${schema}"`)
      yield* run(`SET search_path TO "${schema}"`)
      const epoch = yield* transaction(
        run,
        "BEGIN",
        Effect.gen(function* () {
          yield* run("CREATE TABLE IF NOT EXISTS holder (version INTEGER NOT NULL, epoch BIGINT NOT NULL)")
          yield* run("INSERT INTO holder SELECT 0, 0 WHERE NOT EXISTS (SELECT FROM holder)")
          const [holder] = yield* run("UPDATE holder SET epoch = epoch + 1 RETURNING epoch, version")
          const version = yield* migrate(run, dialect, Number(holder?.["version"]))
          yield* run(`UPDATE holder SET version = ${version}`)
          return String(holder?.["epoch"])
        })
      )
      // Waits for whoever is about to become the next holder, and makes them wait for this transaction.
      const guard = Effect.flatMap(
        run("SELECT epoch FROM holder WHERE epoch = $1::bigint FOR SHARE", [epoch]),
        (rows) =>
          rows.length === 1
            ? Effect.void
            : Effect.fail(new StoreFailed({ reason: "another bridge has taken the journal over", takenOver: true }))
      )
      // Deleted rows leave room that is used again, not a smaller table: so the rows are counted.
      const size = Effect.map(
        run(`SELECT count(*) * ${rowBytes} + coalesce(sum(octet_length(body)), 0) AS bytes FROM entry`),
        ([row]) => Number(row?.["bytes"])
      )
      return storeOn(run, dialect, { begin: "BEGIN", guard, beat: guard, size })
    })

/** A session of one's own, closed with the scope. */
const connect = Effect.fnUntraced(function* (url: Redacted.Redacted<string>) {
  const pool = yield* Effect.acquireRelease(
    Effect.try({
      try: () =>
        new Bun.SQL({
          url: Redacted.value(url),
          // The environment would go before the address otherwise.
          database: databaseIn(url),
          max: 1,
          connectionTimeout: patience / 1_000,
          connection: {
            application_name: "b24rmq",
            idle_session_timeout: lease,
            idle_in_transaction_session_timeout: lease,
            statement_timeout: lease,
            // Rows are asked for by their keys. Before the first ANALYZE the planner would read the whole table for them.
            enable_seqscan: "off",
            enable_hashjoin: "off",
            enable_mergejoin: "off",
            // What then can only be read as a whole looks so dear that it would be compiled each time.
            jit: "off",
            // What is committed has to be on disk, whatever the server's default.
            synchronous_commit: "on"
          }
        }),
      catch: failure
    }),
    (pool) => Effect.ignore(Effect.tryPromise(() => pool.close({ timeout: 0 })))
  )
  const session = yield* Effect.tryPromise({ try: () => heard(pool.reserve()), catch: failure })
  // Said rather than left to the end of the session, of which the server may hear later than the next holder asks.
  yield* Effect.addFinalizer(() =>
    Effect.ignore(Effect.tryPromise(() => heard(session.unsafe("SELECT pg_advisory_unlock_all()"), farewell)))
  )
  return session
})

const databaseIn = (url: Redacted.Redacted<string>) =>
  decodeURIComponent(new URL(Redacted.value(url)).pathname.slice(1))

/** Fails when the server says nothing for too long: the socket's own deadline, which no clock of a program moves. */
const heard = <A>(answer: PromiseLike<A>, within = patience) =>
  new Promise<A>((done, failed) => {
    const deadline = setTimeout(() => failed(new Error(`no answer within ${within / 1_000} s`)), within)
    answer.then(done, failed).then(() => clearTimeout(deadline))
  })

/** The server's text, which names neither the address nor the password. */
const failure = (cause: unknown) => {
  const text = cause instanceof Error ? cause.message : String(cause)
  const code = typeof cause === "object" && cause !== null && "errno" in cause ? String(cause.errno) : ""
  return new StoreFailed({ reason: `PostgreSQL: ${text}`, code })
}
