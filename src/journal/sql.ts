import { Effect } from "effect"
import type { Answer } from "../message/answer.ts"
import { type Answered, type Changes, lostMemory, type Row, type Sent, type Store, StoreFailed } from "./store.ts"

/** What SQLite and PostgreSQL say differently. */
export interface Dialect {
  /** One row, named `value`, for each element of the JSON list in the first parameter. */
  readonly elements: string
  /** Makes bytes of the hexadecimal digits in a text. */
  readonly unhex: (text: string) => string
  readonly bytes: string
  /** The type of a text that is compared byte by byte. */
  readonly key: string
}

export type Run = (
  statement: string,
  values?: ReadonlyArray<string | number>
) => Effect.Effect<ReadonlyArray<Record<string, unknown>>, StoreFailed>

/**
 * The schema by version, each what has to be done to the one before. What is released is never edited.
 * `done_at` is null while there is no answer, so that the index holds only what may be forgotten.
 */
const migrations = ({ bytes, key }: Dialect): ReadonlyArray<ReadonlyArray<string>> => [
  [
    `CREATE TABLE entry (
      key ${key} NOT NULL PRIMARY KEY, message_id TEXT NOT NULL, method TEXT NOT NULL, credential TEXT NOT NULL,
      queue TEXT NOT NULL, sent_at BIGINT, first_at BIGINT, departures INTEGER NOT NULL, stamped INTEGER NOT NULL DEFAULT 0,
     
      outcome TEXT, status INTEGER, attempts INTEGER, packed INTEGER, resolved TEXT, body ${bytes}, bytes INTEGER, digest TEXT,
      done_at BIGINT, confirmed INTEGER NOT NULL DEFAULT 0)`,
    `CREATE INDEX entry_done ON entry (confirmed, done_at) WHERE done_at IS NOT NULL`,
    `CREATE TABLE fact (key ${key} NOT NULL PRIMARY KEY, value TEXT NOT NULL)`
  ]
]

/** Brings the schema from a version up to date, inside a transaction of the caller's. Says which version it is now. */
export const migrate = Effect.fnUntraced(function* (run: Run, dialect: Dialect, version: number) {
  const steps = migrations(dialect)
  if (version > steps.length) {
    return yield* new StoreFailed({
      reason: `it was written by a newer version of this program (schema ${version}, known is ${steps.length}): use that version, or name another journal`
    })
  }
  for (const statement of steps.slice(version).flat()) yield* run(statement)
  return steps.length
})

/** Runs all of it or nothing. Not to be interrupted in between, or the next statement would join the transaction. */
export const transaction = <A>(run: Run, begin: string, inside: Effect.Effect<A, StoreFailed>) =>
  run(begin).pipe(
    Effect.andThen(inside),
    Effect.tap(run("COMMIT")),
    Effect.tapError(() => Effect.ignore(run("ROLLBACK"))),
    Effect.uninterruptible
  )

/** Notes in a new journal that there was one before it. */
export const noteLoss = (run: Run, at: number) =>
  run(`INSERT INTO fact (key, value) VALUES ('${lostMemory}', '${Math.floor(at)}')`)

const columns =
  "key, message_id, method, credential, queue, sent_at, departures, outcome, status, attempts, packed, bytes, digest, done_at, confirmed, first_at, stamped, resolved"

/** A store on an open connection that nobody else uses. `begin` starts a transaction, `guard` goes first in it. */
export const storeOn = (
  run: Run,
  dialect: Dialect,
  rest: { readonly begin: string; readonly guard: Effect.Effect<unknown, StoreFailed> } & Pick<Store, "beat" | "size">
): Store => {
  const { elements, unhex } = dialect
  const text = (at: number) => `value->>${at}`
  const number = (at: number) => `CAST(value->>${at} AS BIGINT)`

  const revert = `UPDATE entry SET sent_at = ${number(2)}, departures = ${number(3)}, stamped = ${number(4)} FROM ${elements}
    WHERE entry.key = ${text(0)} AND sent_at = ${number(1)} AND outcome IS NULL`
  const withdraw = `DELETE FROM entry WHERE outcome IS NULL AND (key, sent_at) IN
    (SELECT ${text(0)}, ${number(1)} FROM ${elements})`
  // Nothing else is ever meant: what was refused may be executed since, by this bridge or by another.
  const forgetRefusals = `DELETE FROM entry WHERE outcome IN ('refused', 'rejected') AND key IN
    (SELECT ${text(0)} FROM ${elements})`
  // An answer never gives way, neither to another nor to a departure: after a change of holders this one may know less.
  const put = `INSERT INTO entry (${columns}, body)
    SELECT ${text(0)}, ${text(1)}, ${text(2)}, ${text(3)}, ${text(4)}, ${number(5)}, ${number(6)}, ${text(7)}, ${number(8)},
      ${number(9)}, ${number(10)}, ${number(11)}, ${text(12)}, ${number(13)}, ${number(14)}, ${number(15)}, ${number(16)},
      ${text(17)}, ${unhex(text(18))}
    FROM ${elements} WHERE true
    ON CONFLICT (key) DO UPDATE SET queue = excluded.queue, sent_at = excluded.sent_at,
      first_at = excluded.first_at, stamped = excluded.stamped, resolved = excluded.resolved,
      departures = excluded.departures, outcome = excluded.outcome, status = excluded.status, attempts = excluded.attempts,
      packed = excluded.packed, bytes = excluded.bytes, digest = excluded.digest, done_at = excluded.done_at,
      confirmed = excluded.confirmed, body = excluded.body
    WHERE entry.outcome IS NULL AND (excluded.outcome IS NOT NULL OR excluded.departures > entry.departures)`
  const confirm = `UPDATE entry SET confirmed = 1, done_at = ${number(1)} FROM ${elements}
    WHERE entry.key = ${text(0)} AND outcome IS NOT NULL`
  const keep = `INSERT INTO fact (key, value) SELECT ${text(0)}, ${text(1)} FROM ${elements} WHERE true
    ON CONFLICT (key) DO UPDATE SET value = excluded.value`

  const each = (statement: string, list: ReadonlyArray<unknown>) =>
    list.length === 0 ? Effect.void : run(statement, [JSON.stringify(list)])

  const changed = Effect.fnUntraced(function* (changes: Changes) {
    yield* rest.guard
    const firsts = changes.withdrawals.filter(({ before }) => before === undefined)
    const laters = changes.withdrawals.filter(({ before }) => before !== undefined)
    yield* each(
      revert,
      laters.map(({ key, at, before }) => [key, at, before?.at, before?.attempts, Number(before?.stamped)])
    )
    yield* each(
      withdraw,
      firsts.map(({ key, at }) => [key, at])
    )
    yield* each(
      forgetRefusals,
      changes.forgets.map((key) => [key])
    )
    yield* each(put, changes.rows.map(valuesOf))
    yield* each(
      confirm,
      changes.confirms.map(({ key, at }) => [key, at])
    )
    yield* each(keep, changes.facts)
  })

  return {
    ...rest,
    commit: (changes) => transaction(run, rest.begin, changed(changes)),
    find: (keys) =>
      Effect.map(
        run(`SELECT ${columns}, body FROM entry WHERE key IN (SELECT ${text(0)} FROM ${elements})`, [
          JSON.stringify(keys.map((key) => [key]))
        ]),
        (rows) => rows.map(rowOf)
      ),
    startingWith: (beginning) =>
      Effect.map(
        run(`SELECT ${columns} FROM entry WHERE key >= $1 AND key < $2`, [beginning, `${beginning}~`]),
        (rows) => rows.map(rowOf)
      ),
    facts: Effect.map(
      run("SELECT key, value FROM fact"),
      (rows) => new Map(rows.map(({ key, value }) => [String(key), String(value)]))
    ),
    forget: (before, most) =>
      transaction(
        run,
        rest.begin,
        Effect.gen(function* () {
          yield* rest.guard
          const oldest = (confirmed: 0 | 1) =>
            `DELETE FROM entry WHERE key IN (SELECT key FROM entry WHERE confirmed = ${confirmed} AND done_at < $1
              AND done_at IS NOT NULL ORDER BY done_at LIMIT $2) RETURNING key`
          const forgotten = yield* run(oldest(1), [Math.floor(before.confirmed), most])
          const orphans = yield* run(oldest(0), [Math.floor(before.unconfirmed), most])
          return forgotten.length + orphans.length
        })
      )
  }
}

const valuesOf = ({ key, messageId, method, credential, queue, sent, answered }: Row) => [
  key,
  messageId,
  method,
  credential,
  queue,
  sent?.at,
  sent?.attempts ?? 0,
  answered?.outcome,
  answered?.status,
  answered?.attempts,
  answered === undefined ? undefined : Number(answered.packed),
  answered?.bytes,
  answered?.digest,
  answered?.at,
  Number(answered?.confirmed ?? false),
  sent?.firstAt,
  Number(sent?.stamped ?? false),
  answered?.resolved,
  answered?.body === undefined ? undefined : Buffer.from(answered.body).toString("hex")
]

/** PostgreSQL gives large integers as text. */
const numberOf = (value: unknown) => (value === null || value === undefined ? undefined : Number(value))

const rowOf = (row: Record<string, unknown>): Row => {
  const sentAt = numberOf(row["sent_at"])
  const sent: Sent | undefined =
    sentAt === undefined
      ? undefined
      : {
          at: sentAt,
          firstAt: Number(row["first_at"]),
          attempts: Number(row["departures"]),
          stamped: Number(row["stamped"]) === 1
        }
  const body = row["body"]
  const answered: Answered | undefined =
    row["outcome"] === null
      ? undefined
      : {
          outcome: row["outcome"] as Answer["outcome"],
          status: numberOf(row["status"]),
          attempts: Number(row["attempts"]),
          packed: Number(row["packed"]) === 1,
          resolved: (row["resolved"] ?? undefined) as Answer["resolved"],
          body: body instanceof Uint8Array ? Buffer.from(body) : undefined,
          bytes: Number(row["bytes"]),
          digest: row["digest"] === null ? undefined : String(row["digest"]),
          at: Number(row["done_at"]),
          confirmed: Number(row["confirmed"]) === 1
        }
  return {
    key: String(row["key"]),
    messageId: String(row["message_id"]),
    method: String(row["method"]),
    credential: String(row["credential"]),
    queue: String(row["queue"]),
    sent,
    answered
  }
}
