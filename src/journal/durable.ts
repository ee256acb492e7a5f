import {
  Cause,
  Clock,
  Deferred,
  Duration,
  Effect,
  Exit,
  Option,
  Queue,
  Schedule,
  type Scope,
  SubscriptionRef
} from "effect"
import { tell } from "../events.ts"
import { type Answer, isRefusal, type OutcomeWord } from "../message/answer.ts"
import type { Request } from "../message/request.ts"
import { commitTime, recorder } from "../metrics.ts"
import { openAgain } from "../schedules.ts"
import type { Settings } from "../settings.ts"
import type { Journal } from "./journal.ts"
import { type Departing, JournalFailed, type JournalState, type Known, Overtaken } from "./known.ts"
import { answersUpTo, journalInMemory } from "./memory.ts"
import { answeredBy, answerOf, beginningOf, departed, keyOf } from "./row.ts"
import {
  type Answered,
  type Changes,
  lostMemory,
  type Open,
  type Row,
  type Sent,
  type Store,
  type StoreFailed
} from "./store.ts"

const MiB = 1024 * 1024

/** In seconds: for how long an answer is held back while it cannot be written. */
const holdAnswers = 30

/**
 * The longest silence towards the store (see the lease in postgres.ts), and the longest that a confirm or a withdrawal
 * waits for company on its way to the disk.
 */
const beatEvery = Duration.seconds(2)

/** In milliseconds: how old an intent may be when its write leaves. Half of the lease, after which others may resolve it. */
const freshFor = 5_000

/** In milliseconds: how often it is looked for what is old. */
const sweepEvery = 60_000

/** How many rows are forgotten in one transaction: a few milliseconds. */
const sweepAtMost = 500

/** Answers that were never confirmed are left over from a crash after their acknowledgement: kept so many times longer. */
const unconfirmedLonger = 7

/** A write that is under way, or answered and not yet on disk. */
interface Entry {
  readonly key: string
  readonly request: Request
  /** The opening of the store in which it was looked up: before the next one others may have taken it up. */
  session: number
  queue: string
  sent: Sent | undefined
  /** What `withdraw` returns to. */
  before: Sent | undefined
  readonly answer: Deferred.Deferred<Answer | undefined>
  readonly onDisk: Deferred.Deferred<void>
  /** `since`: seconds of the monotonic clock. */
  settled: { readonly answer: Answer; answered: Answered; readonly since: number } | undefined
}

interface Intent {
  readonly entries: ReadonlyArray<Entry>
  readonly done: Deferred.Deferred<void, JournalFailed | Overtaken>
}

interface Question {
  readonly beginning: string
  readonly done: Deferred.Deferred<ReadonlyArray<Row>, JournalFailed>
}

interface Found {
  readonly row: Row | undefined
  readonly session: number
}

/** What waits for the next transaction. */
const nothing = () => ({
  withdrawals: [] as Array<Changes["withdrawals"][number]>,
  forgets: new Set<string>(),
  rows: new Set<Entry>(),
  confirms: new Map<string, number>(),
  facts: [] as Array<{
    readonly fact: Changes["facts"][number]
    readonly done: Deferred.Deferred<void, JournalFailed>
  }>,
  intents: [] as Array<Intent>
})

export type JournalSettings = Pick<Settings["Service"], "b24Rest" | "journalKeep" | "journalMax">

/**
 * A journal on a store. What is under way is known in memory; of everything else the store is asked, once for all that
 * arrived in one turn of the event loop. One fiber owns the store, and one transaction serves all that wait.
 *
 * When the store is lost it is opened again without end, and what this process has under way is written again: departures
 * that the store does not know, and answers to what nobody else has answered. If another bridge held it in between,
 * writes that have not left yet are compared with what that one wrote before they may: see `Overtaken`.
 */
export const durable = Effect.fnUntraced(function* (
  open: Open,
  settings: JournalSettings
): Effect.fn.Return<Journal["Service"], never, Scope.Scope> {
  const clock = yield* Clock.Clock
  const record = yield* recorder
  const now = () => clock.currentTimeMillisUnsafe()
  /** Of the monotonic clock: that of the machine may be set back. */
  const seconds = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e9
  const state = yield* SubscriptionRef.make<JournalState>({ _tag: "opening" })
  const wakes = yield* Queue.sliding<void>(1)
  const opened = Deferred.makeUnsafe<void>()
  const keep = Duration.toMillis(settings.journalKeep)
  const portal = settings.b24Rest.href

  const reads = yield* journalInMemory({ confirmed: 0, unconfirmed: 256 * MiB })
  const running = new Map<string, Entry>()
  /** Answers that are too long for the disk, until they are confirmed. */
  const long = answersUpTo(256 * MiB)
  const lookups = new Map<string, Deferred.Deferred<Found>>()
  const questions = new Set<Question>()
  let pending = nothing()
  let facts: ReadonlyMap<string, string> = new Map()
  let session = 0
  let sweptAt = -Infinity
  /** Bytes written since the size was last looked at. */
  let grown = 0
  let full = false

  const wake = () => void Queue.offerUnsafe(wakes, undefined)

  const keys = new WeakMap<Request, string>()
  /** Asked for at each step of a request. */
  const keyOnce = (request: Request) => {
    const known = keys.get(request)
    if (known !== undefined) return known
    const key = keyOf(portal, request)
    keys.set(request, key)
    return key
  }

  const entryOf = (request: Request) =>
    request.messageId === undefined || running.size === 0 ? undefined : running.get(keyOnce(request))

  const become = (next: JournalState) =>
    Effect.suspend(() => {
      const last = SubscriptionRef.getUnsafe(state)
      if (last._tag === next._tag && (last._tag !== "failed" || next._tag !== "failed" || last.reason === next.reason))
        return Effect.void
      return Effect.andThen(SubscriptionRef.set(state, next), announce(next))
    })

  // ---- what callers do ----

  const lookUp = (key: string) =>
    Effect.suspend(() => {
      const same = lookups.get(key)
      if (same !== undefined) return Deferred.await(same)
      const found = Deferred.makeUnsafe<Found>()
      lookups.set(key, found)
      wake()
      return Deferred.await(found)
    })

  const underWay = (key: string): Known | undefined => {
    const twin = running.get(key)
    return twin && { _tag: "Running", answer: Deferred.await(twin.answer) }
  }

  /** Whoever waits for the same look-up is resumed in the same turn, so what was found is still true of all but twins. */
  const claim = (key: string, request: Request, { row, session }: Found): Known => {
    if (row?.answered !== undefined) {
      const answer = long.get(key) ?? answerOf(row.answered)
      return { _tag: "Answered", answer, confirmed: row.answered.confirmed }
    }
    const sent = row?.sent
    running.set(key, {
      key,
      request,
      session,
      queue: row?.queue ?? "",
      sent,
      before: sent,
      answer: Deferred.makeUnsafe(),
      onDisk: Deferred.makeUnsafe(),
      settled: undefined
    })
    return sent === undefined ? { _tag: "Fresh" } : { _tag: "InDoubt", sent }
  }

  const recall = (request: Request, isRead: boolean) => {
    if (isRead || request.messageId === undefined) return reads.recall(request, isRead)
    return Effect.suspend(() => {
      const key = keyOnce(request)
      const twin = underWay(key)
      if (twin !== undefined) return Effect.succeed(twin)
      return Effect.map(lookUp(key), (found) => underWay(key) ?? claim(key, request, found))
    })
  }

  const cannotWrite = () => {
    const { _tag, ...rest } = SubscriptionRef.getUnsafe(state)
    if (_tag === "ready") return undefined
    return new JournalFailed({
      reason: "reason" in rest ? rest.reason : _tag === "standby" ? held : "it is not open yet"
    })
  }

  const intend = (departing: ReadonlyArray<Departing>) =>
    Effect.suspend((): Effect.Effect<void, JournalFailed | Overtaken> => {
      const named = departing.filter(({ request, isRead }) => !isRead && request.messageId !== undefined)
      const writes = named.flatMap(({ request, queue }) => {
        const entry = entryOf(request)
        return entry === undefined ? [] : [{ entry, queue, request }]
      })
      if (writes.length < named.length) return Effect.die(notRecalled)
      if (writes.length === 0) return Effect.void
      const failed = cannotWrite()
      if (failed !== undefined) return Effect.fail(failed)
      const at = now()
      const begun = seconds()
      for (const { entry, queue, request } of writes) {
        entry.queue = queue
        entry.before = entry.sent
        entry.sent = departed(entry.sent, request, at)
        pending.rows.add(entry)
      }
      const intent: Intent = { entries: writes.map(({ entry }) => entry), done: Deferred.makeUnsafe() }
      pending.intents.push(intent)
      wake()
      return Deferred.await(intent.done).pipe(
        Effect.andThen(
          Effect.suspend(() => {
            // By either clock: one may be set back, and the other stands still while the machine sleeps.
            const age = Math.max(now() - at, Math.round(1_000 * (seconds() - begun)))
            // This process or the disk stood still. By now another bridge may hold the journal and look these up.
            return age < freshFor ? Effect.void : Effect.fail(new JournalFailed({ reason: `it took ${age} ms` }))
          })
        ),
        Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : Effect.sync(() => undo(intent.entries))))
      )
    })

  /** Also of what may not have come to disk: the store passes over departures that it does not know. */
  const undo = (entries: ReadonlyArray<Entry>) => {
    for (const entry of entries) {
      const { key, sent, before } = entry
      if (sent === before || sent === undefined) continue
      pending.withdrawals.push({ key, at: sent.at, before })
      entry.sent = before
      if (entry.settled === undefined) pending.rows.delete(entry)
    }
  }

  const end = (entry: Entry, answer: Answer | undefined) => Deferred.doneUnsafe(entry.answer, Effect.succeed(answer))

  const settle = (request: Request, answer: Answer) =>
    Effect.suspend(() => {
      const entry = entryOf(request)
      if (entry === undefined) return reads.settle(request, answer)
      const answered = answeredBy(answer, now())
      if (answered.body === undefined) long.keep(entry.key, answer)
      entry.settled = { answer, answered, since: seconds() }
      pending.rows.add(entry)
      wake()
      return Effect.andThen(
        Deferred.await(entry.onDisk),
        Effect.sync(() => end(entry, answer))
      )
    })

  const release = (request: Request) =>
    Effect.suspend(() => {
      const entry = entryOf(request)
      if (entry === undefined) return reads.release(request)
      if (entry.settled !== undefined) return Effect.void
      running.delete(entry.key)
      // It may be leaving at this moment: then it is on disk first.
      if (!pending.intents.some(({ entries }) => entries.includes(entry))) pending.rows.delete(entry)
      end(entry, undefined)
      return Effect.void
    })

  const confirmed = (request: Request, outcome: OutcomeWord, isRead: boolean) =>
    Effect.suspend(() => {
      if (request.messageId === undefined || isRead) return reads.confirmed(request, outcome, isRead)
      const key = keyOnce(request)
      const entry = running.get(key)
      if (entry !== undefined && entry.settled === undefined) return Effect.void
      if (!isRefusal(outcome)) {
        long.drop(key)
        const at = now()
        if (entry?.settled) entry.settled.answered = { ...entry.settled.answered, at, confirmed: true }
        pending.confirms.set(key, at)
        return Effect.void
      }
      if (entry?.settled !== undefined && !isRefusal(entry.settled.answer.outcome)) return Effect.void
      const kept = long.get(key)
      if (kept !== undefined && isRefusal(kept.outcome)) long.drop(key)
      pending.forgets.add(key)
      if (entry === undefined) return Effect.void
      running.delete(key)
      pending.rows.delete(entry)
      Deferred.doneUnsafe(entry.onDisk, Effect.void)
      end(entry, entry.settled?.answer)
      return Effect.void
    })

  const ask = (messageId: string) =>
    Effect.suspend(() => {
      const failed = session === 0 ? cannotWrite() : undefined
      if (failed !== undefined) return Effect.fail(failed)
      const question: Question = { beginning: beginningOf(messageId), done: Deferred.makeUnsafe() }
      questions.add(question)
      wake()
      return Effect.map(Deferred.await(question.done), (rows) => rows.filter((row) => row.messageId === messageId))
    })

  const remember = (key: string, value: string) =>
    Effect.suspend(() => {
      const failed = cannotWrite()
      if (failed !== undefined) return Effect.fail(failed)
      const fact = { fact: [key, value] as const, done: Deferred.makeUnsafe<void, JournalFailed>() }
      pending.facts.push(fact)
      wake()
      return Deferred.await(fact.done)
    })

  // ---- what the fiber does that owns the store ----

  /** Takes out of the batch what another bridge has taken up since it was looked up here. */
  const stillOurs = Effect.fnUntraced(function* (store: Store, batch: ReturnType<typeof nothing>) {
    const stale = batch.intents.flatMap(({ entries }) => entries.filter((entry) => entry.session !== session))
    if (stale.length === 0) return
    const rows = new Map((yield* store.find(stale.map(({ key }) => key))).map((row) => [row.key, row]))
    const isOvertaken = ({ key, session: lookedUp, before }: Entry) => {
      const row = lookedUp === session ? undefined : rows.get(key)
      return row !== undefined && (row.answered !== undefined || (row.sent?.attempts ?? 0) > (before?.attempts ?? 0))
    }
    for (const { entries, done } of batch.intents) {
      const overtaken = entries.filter(isOvertaken)
      if (overtaken.length === 0) for (const entry of entries) entry.session = session
      else {
        for (const entry of entries) {
          entry.sent = entry.before
          batch.rows.delete(entry)
        }
        Deferred.doneUnsafe(done, Effect.fail(new Overtaken({ requests: overtaken.map(({ request }) => request) })))
      }
    }
  })

  const write = Effect.fnUntraced(function* (store: Store) {
    const batch = pending
    pending = nothing()
    const exit = yield* Effect.exit(
      Effect.gen(function* () {
        yield* stillOurs(store, batch)
        const written = [...batch.rows]
          .filter(({ sent, settled }) => sent !== undefined || settled !== undefined)
          .map((entry) => [entry, rowOf(entry)] as const)
        const changes: Changes = {
          withdrawals: batch.withdrawals,
          forgets: [...batch.forgets],
          rows: written.map(([, row]) => row),
          confirms: Array.from(batch.confirms, ([key, at]) => ({ key, at })),
          facts: batch.facts.map(({ fact }) => fact)
        }
        if (Object.values(changes).some((some) => some.length > 0)) {
          const begun = seconds()
          yield* store.commit(changes)
          record(commitTime, seconds() - begun)
        }
        return written
      })
    )
    if (Exit.isFailure(exit)) {
      // The rows are written again from what is under way.
      pending.withdrawals.unshift(...batch.withdrawals)
      pending.confirms = new Map([...batch.confirms, ...pending.confirms])
      pending.intents.push(...batch.intents)
      pending.facts.push(...batch.facts)
      return yield* exit
    }
    for (const [entry, { answered }] of exit.value) {
      grown += rowCost + (answered?.body?.length ?? 0)
      if (answered === undefined || entry.settled === undefined) continue
      if (running.get(entry.key) === entry) running.delete(entry.key)
      Deferred.doneUnsafe(entry.onDisk, Effect.void)
      end(entry, entry.settled.answer)
    }
    for (const { done } of batch.intents) Deferred.doneUnsafe(done, Effect.void)
    if (batch.facts.length > 0) facts = new Map([...facts, ...batch.facts.map(({ fact }) => fact)])
    for (const { done } of batch.facts) Deferred.doneUnsafe(done, Effect.void)
    if (full && batch.confirms.size > 0) grown = Infinity
  })

  /** Answers what was asked before `write` began; whoever asks later has to wait for the next turn. */
  const read = Effect.fnUntraced(function* (store: Store, keys: ReadonlyArray<string>) {
    if (keys.length > 0) {
      const rows = new Map((yield* store.find(keys)).map((row) => [row.key, row]))
      for (const key of keys) {
        const found = lookups.get(key)
        lookups.delete(key)
        if (found !== undefined) Deferred.doneUnsafe(found, Effect.succeed({ row: rows.get(key), session }))
      }
    }
    for (const question of questions) {
      const rows = yield* store.startingWith(question.beginning)
      questions.delete(question)
      Deferred.doneUnsafe(question.done, Effect.succeed(rows))
    }
  })

  /** Forgets what is old, and what is too much. */
  const tidy = Effect.fnUntraced(function* (store: Store) {
    const at = now()
    if (at - sweptAt >= sweepEvery) {
      const before = { confirmed: at - keep, unconfirmed: at - unconfirmedLonger * keep }
      if (full || sweptAt === -Infinity) grown = Infinity
      if ((yield* store.forget(before, sweepAtMost)) < sweepAtMost) sweptAt = at
      else wake()
    }
    const most = settings.journalMax
    if (grown < most / 100) return
    while ((yield* store.size) > most * 0.98) {
      if ((yield* store.forget({ confirmed: Number.MAX_SAFE_INTEGER, unconfirmed: 0 }, sweepAtMost)) === 0) break
    }
    full = (yield* store.size) > most
    grown = 0
    yield* become(full ? { _tag: "failed", reason: tooFull } : { _tag: "ready" })
  })

  const turn = (store: Store) =>
    Effect.suspend(() => {
      // Whatever was to be written when a look-up was asked for is written before it.
      const keys = [...lookups.keys()]
      return write(store).pipe(Effect.andThen(tidy(store)), Effect.andThen(read(store, keys)))
    }).pipe(Effect.uninterruptible)

  const sessionOnce = Effect.gen(function* () {
    const store = yield* open({ waiting: become({ _tag: "standby" }) })
    session++
    facts = yield* store.facts
    for (const entry of running.values()) pending.rows.add(entry)
    sweptAt = -Infinity
    const turns = Effect.gen(function* () {
      yield* turn(store)
      Deferred.doneUnsafe(opened, Effect.void)
      while (true) {
        const woken = yield* Effect.timeoutOption(Queue.take(wakes), beatEvery)
        // Whatever else this turn of the event loop brings goes along.
        yield* Effect.yieldNow
        if (Option.isNone(woken)) yield* store.beat
        yield* turn(store)
      }
    })
    // A stop writes what still waits for company.
    return yield* Effect.onInterrupt(turns, () => Effect.ignore(Effect.uninterruptible(write(store))))
  })

  const lost = Effect.fnUntraced(function* (cause: Cause.Cause<StoreFailed>) {
    const failure = Option.getOrUndefined(Cause.findErrorOption(cause))
    const reason = failure?.reason ?? Cause.pretty(cause)
    if (failure === undefined) yield* tell("broken", { cause: reason })
    const failed = Effect.fail(new JournalFailed({ reason }))
    yield* become(failure?.takenOver ? { _tag: "standby" } : { _tag: "failed", reason })
    for (const { done } of pending.intents) Deferred.doneUnsafe(done, failed)
    for (const { done } of pending.facts) Deferred.doneUnsafe(done, failed)
    for (const { done } of questions) Deferred.doneUnsafe(done, failed)
    pending.intents = []
    pending.facts = []
    questions.clear()
    // What another bridge answers in the meantime is not to be forgotten. At worst a refusal is said twice.
    pending.forgets.clear()
  })

  const keepOpen = Effect.gen(function* () {
    let pause = yield* Schedule.toStepWithSleep(openAgain)
    while (true) {
      const before = session
      const exit = yield* Effect.exit(Effect.scoped(sessionOnce))
      if (Exit.isFailure(exit)) yield* lost(exit.cause)
      if (session > before) pause = yield* Schedule.toStepWithSleep(openAgain)
      yield* Effect.orDie(pause(undefined))
    }
  })

  /** One look for all answers: a timer for each of them would cost more than to write it. */
  const giveUpHolding = Effect.gen(function* () {
    yield* Effect.sleep("1 second")
    const before = seconds() - holdAnswers
    for (const { onDisk, settled } of running.values())
      if (settled !== undefined && settled.since <= before) Deferred.doneUnsafe(onDisk, Effect.void)
  })

  yield* Effect.forkScoped(keepOpen)
  yield* Effect.forkScoped(Effect.forever(giveUpHolding))

  return {
    recall,
    intend,
    withdraw: (departing) =>
      Effect.sync(() => undo(departing.flatMap(({ request, isRead }) => (isRead ? [] : (entryOf(request) ?? []))))),
    release,
    settle,
    confirmed,
    state,
    lostMemorySince: Effect.sync(() => {
      const since = Number(facts.get(lostMemory))
      return since > now() - keep ? since : undefined
    }),
    remember,
    recallKey: (key) =>
      Effect.andThen(
        Deferred.await(opened),
        Effect.sync(() => facts.get(key))
      ),
    find: ask
  }
})

/** What a row takes besides the body, in bytes, roughly: tells when the size is to be looked at again. */
const rowCost = 400

/** To go on would be to send a write of which the journal knows nothing. */
const notRecalled = new Error("a write leaves that was not recalled, or was released")

const held = "another bridge holds it"
const tooFull = "it has reached B24RMQ_JOURNAL_MAX, and nothing in it may be forgotten"

const announce = (state: JournalState) => {
  switch (state._tag) {
    case "opening":
      return Effect.void
    case "ready":
      return tell("journal-ready")
    case "standby":
      return tell("journal-standby")
    case "failed":
      return state.reason === tooFull ? tell("journal-full") : tell("journal-failed", { reason: state.reason })
  }
}

const rowOf = ({ key, request, queue, sent, settled }: Entry): Row => ({
  key,
  messageId: request.messageId ?? "",
  method: request.method,
  credential: request.credential,
  queue,
  sent,
  answered: settled?.answered
})
