import {
  Cause,
  Clock,
  Context,
  Duration,
  Effect,
  FiberSet,
  Layer,
  MutableRef,
  Pull,
  Queue,
  Schedule,
  Stream,
  SubscriptionRef
} from "effect"
import { tell } from "../events.ts"
import type { Request } from "../message/request.ts"
import { Journal } from "../journal/journal.ts"
import { packed, portalRequests, portalTime, recorder, refusals, retries, waited } from "../metrics.ts"
import { pack, unpack } from "../portal/batch.ts"
import { type Call, Portal } from "../portal/client.ts"
import * as Limits from "../portal/limits.ts"
import { type FinalOutcome, judgeMember, type Outcome, provesLife, Unknown } from "../portal/outcome.ts"
import { keyOf } from "../portal/remedies.ts"
import { Outlet } from "../queue/outlet.ts"
import { probe as probeSchedule, readAgain } from "../schedules.ts"
import { Settings } from "../settings.ts"
import type { Lines } from "./lines.ts"
import { Pause } from "./pause.ts"
import { Tally } from "./tally.ts"
import { type Asker, commandFor, type ReadPause, type Reply, type Waiting, WaitingRoom } from "./room.ts"
import { batchOf, duesOf, type Scene, Turn, withoutJournal } from "./turn.ts"
import { type Health, methodsIn, perCallIn, type Seen, waitsIn, whereaboutsIn, type Whereabouts } from "./waits.ts"

/** What moves, for whoever watches. Times are milliseconds of the monotonic clock. */
export interface Activity {
  /** The identities of all who wait or are called. */
  readonly held: () => ReadonlySet<string>
  /** When the oldest of the calls in flight left. */
  readonly oldestCall: () => number | undefined
  /** Whether somebody could leave now, and has waited for company long enough. */
  readonly couldLeave: () => boolean
  /** Calls that have left, and that have ended. */
  readonly left: () => number
  readonly ended: () => number
}

/** The waiting room: who waits, why, and what leaves next. The only one who calls the portal. */
export class Dispatch extends Context.Service<
  Dispatch,
  {
    /** Decides who goes, until it is interrupted. To be run once, and to be joined: nothing moves without it. */
    readonly run: Effect.Effect<never>
    /** Waits for its turn, calls, and repeats what was not executed and reads whose outcome is unknown. */
    readonly ask: (asker: Asker) => Effect.Effect<Reply>
    /** Who names the same entity. Places are taken and left by those who ask. */
    readonly lines: Lines
    /** Until when a request has to wait for its method or for the journal, as far as is known; monotonic milliseconds. */
    readonly closedUntil: (request: Request, isRead: boolean) => number | undefined
    /** Looks again at those who wait: deliveries were lost. */
    readonly look: Effect.Effect<void>
    /** Starts nothing any more; who waits is told so, what is in flight goes on. */
    readonly close: Effect.Effect<void>
    /** `away` while the portal answers neither calls nor probes. */
    readonly health: SubscriptionRef.SubscriptionRef<Health>
    /** What an operator may see. Looks at everybody who waits: for a few times a second. */
    readonly seen: Effect.Effect<Seen>
    /** Those of a message_id who wait, and why. */
    readonly find: (messageId: string) => Effect.Effect<Whereabouts>
    readonly activity: Activity
  }
>()("b24rmq/Dispatch") {
  static readonly layer = Layer.effect(
    Dispatch,
    Effect.suspend(() => open)
  ).pipe(Layer.provideMerge(Layer.mergeAll(Tally.layer, Pause.layer)))
}

/** Calls by which the requests in one call are told: the older ones count less. */
const remembered = 30

type UnknownOutcome = Extract<Outcome, { _tag: "Unknown" }>

/** Stands for a call whose handling broke: whether it was executed is as unknown as can be. */
const broken: FinalOutcome = Unknown({
  reason: "a defect of the bridge",
  status: undefined,
  silent: false,
  timedOut: false
})

/** Stands for a member of a batch that its answer does not mention. */
const unmentioned = Unknown({ reason: "the batch says nothing of it", status: 200, silent: false, timedOut: false })

/** How often it is looked for those who have become too old, in milliseconds. Whoever departs is always looked at. */
const ageStep = 500

/** The waits of one request between its attempts to read. */
const readPause: Effect.Effect<ReadPause> = Effect.map(Schedule.toStep(Schedule.jittered(readAgain)), (step) =>
  Effect.gen(function* () {
    const next = yield* step(yield* Clock.currentTimeMillis, undefined).pipe(
      Effect.map(([, wait]) => Duration.toMillis(wait)),
      Pull.catchDone(() => Effect.void)
    )
    return next ?? undefined
  }).pipe(Effect.orDie)
)

const open = Effect.gen(function* () {
  const settings = yield* Settings
  const portal = yield* Portal
  const outlet = yield* Outlet
  const journal = yield* Journal
  const tally = yield* Tally
  const pause = yield* Pause
  const clock = yield* Clock.Clock
  const record = yield* recorder
  const start = yield* FiberSet.makeRuntime<never>()
  const health = yield* SubscriptionRef.make<Health>("well")
  const wakes = yield* Queue.sliding<void>(1)
  const suspicions = yield* Queue.sliding<string>(1)

  /** Seconds of operating time that calls in flight will take, by method and for `batch`. */
  const underWay = new Map<string, number>()
  let inFlight = 0
  /** When the calls in flight left, and who is in them. */
  const calls = new Map<ReadonlyArray<Waiting>, number>()
  let left = 0
  let ended = 0
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  const seconds = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e9
  const live = () => MutableRef.get(settings.live)
  let limits = Limits.atStart(now(), live().rate, settings.b24Rest.hostname)
  const wake = () => void Queue.offerUnsafe(wakes, undefined)
  const room = new WaitingRoom(wake)

  let travelling = 0
  let applied = live().rate
  /** Calls that left while the rate was scarce, and the requests in them; the older ones count less. */
  const batched = { calls: 0, requests: 0 }
  let callTakes: number | undefined
  let healthSince = now()
  let awayReason: string | undefined
  let accountBlocked = false

  // The third version answers a batch with one error for everybody as soon as one of its commands fails.
  const packs = !settings.b24Rest.pathname.endsWith("/api/")

  const sceneNow = (): Scene => {
    const { concurrency, pack } = live()
    return {
      room,
      limits,
      at: now(),
      inFlight,
      underWay,
      ceiling: concurrency,
      pack: packs ? pack : "off",
      mayWrite: mayWrite(),
      portalLimit: Duration.toSeconds(settings.portalLimit)
    }
  }

  const mayWrite = () => SubscriptionRef.getUnsafe(journal.state)._tag === "ready"

  const isPaused = () => SubscriptionRef.getUnsafe(pause.since) !== undefined

  const answersCannotGo = () => SubscriptionRef.getUnsafe(outlet.closed) !== undefined

  /** Decides once, starts who may go, and returns for how many milliseconds time alone will change nothing. */
  const decideOnce = (): number => {
    room.sweep()
    room.expire(clock.currentTimeMillisUnsafe())
    const { rate } = live()
    if (rate !== applied) limits = Limits.withRate(limits, now(), rate, settings.b24Rest.hostname)
    applied = rate
    if (room.isClosing || isPaused() || answersCannotGo()) return Infinity
    const scene = sceneNow()
    const turn = new Turn(scene)
    const { departures, soonest } = turn.decide()
    for (const members of departures) depart(members)
    for (const [one, until] of turn.resting) room.leave(one, { _tag: "Closed", until })
    return soonest - scene.at
  }

  const addUnderWay = (method: string, seconds: number) => {
    const sum = (underWay.get(method) ?? 0) + seconds
    // Nothing but what the rounding has left.
    if (sum < 1e-6) underWay.delete(method)
    else underWay.set(method, sum)
  }

  const depart = (members: ReadonlyArray<Waiting>) => {
    const [first] = members
    if (first === undefined) return
    const leftAt = now()
    inFlight++
    travelling += members.length
    left++
    calls.set(members, leftAt)
    limits = Limits.left(limits, leftAt)
    for (const one of members) {
      room.exit(one)
      one.attempts++
    }
    if (room.size > 0 && Limits.linger(limits, leftAt) > 0) {
      batched.calls = batched.calls * (1 - 1 / remembered) + 1
      batched.requests = batched.requests * (1 - 1 / remembered) + members.length
    }
    const dues = duesOf(limits, members)
    for (const [method, seconds] of dues) addUnderWay(method, seconds)
    const call = members.length === 1 ? alone(first) : together(members)
    start(
      intended(members, call).pipe(
        Effect.catchCause((cause) => {
          for (const one of members) sent(one, broken, false)
          return tell("broken", { message_id: first.request.messageId, cause: Cause.pretty(cause) })
        }),
        Effect.ensuring(
          Effect.sync(() => {
            inFlight--
            travelling -= members.length
            const took = now() - leftAt
            callTakes = callTakes === undefined ? took : callTakes * 0.9 + took * 0.1
            ended++
            calls.delete(members)
            for (const [method, seconds] of dues) addUnderWay(method, -seconds)
            wake()
          })
        )
      )
    )
  }

  /** Calls once it is on disk that these writes leave; they wait on if it cannot be written. */
  const intended = (members: ReadonlyArray<Waiting>, call: Effect.Effect<void>) => {
    if (members.every(({ isRead }) => isRead)) return call
    return journal.intend(members).pipe(
      Effect.andThen(
        Effect.suspend(() => {
          // The portal's limit counts from here: a slow disk may have taken seconds.
          const at = clock.currentTimeMillisUnsafe()
          for (const one of members) one.sentAt = at
          return call
        })
      ),
      Effect.catchTag("JournalFailed", () => Effect.sync(() => members.forEach(notSent))),
      Effect.catchTag("Overtaken", ({ requests }) =>
        Effect.sync(() => {
          // By identity: what leaves may be the stamped form of what was recalled.
          const overtaken = new Set(requests.map(({ id }) => id))
          for (const one of members) {
            if (overtaken.has(one.request.id)) room.leave(one, { _tag: "NotSent", reason: "overtaken" })
            else notSent(one)
          }
        })
      )
    )
  }

  const notSent = (one: Waiting) => {
    one.attempts--
    room.enter(one)
  }

  /** Waits again after a departure that came to nothing. */
  const back = (one: Waiting) =>
    Effect.andThen(
      journal.withdraw([one]),
      Effect.sync(() => room.enter(one))
    )

  const sent = (one: Waiting, outcome: FinalOutcome, packed: boolean) =>
    room.leave(one, {
      _tag: "Sent",
      outcome,
      attempts: one.attempts,
      packed,
      sentAt: one.sentAt,
      endedAt: clock.currentTimeMillisUnsafe()
    })

  /** The third version recognises a write that comes again by its key. */
  const keyFor = ({ isRead, request }: Waiting) => (packs || isRead ? undefined : keyOf(request))

  /** Calls the portal, and counts it. */
  const send = (members: ReadonlyArray<Waiting>, call: Call) =>
    Effect.suspend(() => {
      const begun = seconds()
      const kind = members.length === 1 ? "single" : "batch"
      if (kind === "batch") record(packed, members.length)
      for (const { attempts, since } of members) {
        if (attempts === 1) record(waited, begun - since / 1_000)
        else record(retries, 1)
      }
      return Effect.map(portal.call(call), (outcome) => {
        record(portalTime[kind], seconds() - begun)
        record(portalRequests[kind][resultOf(outcome)], 1)
        countRefusal(outcome)
        return outcome
      })
    })

  const countRefusal = (outcome: Outcome) => {
    if (outcome._tag === "Limited") record(refusals[outcome.scope === "portal" ? "rate" : "operating_time"], 1)
    else if ("alarm" in outcome && outcome.alarm !== undefined) record(refusals[outcome.alarm], 1)
  }

  const alone = (one: Waiting) =>
    Effect.flatMap(send([one], { ...one.request, key: keyFor(one) }), (outcome) =>
      Effect.andThen(learn(one.method, one.request.credential, outcome), settle(one, outcome, false))
    )

  /** Sends several as one `batch`, and gives each what it would have got alone. */
  const together = Effect.fnUntraced(function* (members: ReadonlyArray<Waiting>) {
    const [first] = members
    if (first === undefined) return
    const body = pack(members.map((one) => commandFor(one) ?? ""))
    const outcome = yield* send(members, { ...first.request, method: "batch", body })
    yield* learn(batchOf(first), first.request.credential, outcome)
    const answers = outcome._tag === "Done" ? unpack(outcome.body, members.length) : undefined
    for (const [n, one] of members.entries()) {
      switch (outcome._tag) {
        case "Done": {
          const answer = answers?.[n]
          yield* answer === undefined ? unpacked(one) : settlePacked(one, judgeMember(outcome.status, answer))
          break
        }
        case "Limited":
          yield* back(one)
          break
        case "Refused":
          // Unless it is the credential, it was the batch that was refused, and not its members.
          if (outcome.alarm === undefined) yield* goAlone(one)
          else yield* settle(one, outcome, true)
          break
        case "Unknown":
          one.most = Math.max(1, Math.floor(members.length / 2))
          yield* settle(one, outcome, true)
          break
        case "Unavailable":
          yield* settle(one, outcome, true)
      }
    }
  })

  const goAlone = (one: Waiting) =>
    Effect.suspend(() => {
      one.most = 1
      return back(one)
    })

  /** The batch was executed, and its answer says nothing of this one: it was too large to be read, or is no such answer. */
  const unpacked = (one: Waiting) => (one.isRead ? goAlone(one) : settle(one, unmentioned, true))

  const settlePacked = Effect.fnUntraced(function* (one: Waiting, outcome: Outcome) {
    limits = Limits.learnMember(limits, now(), one.method, batchOf(one), outcome)
    countRefusal(outcome)
    if (outcome._tag === "Limited") yield* tell("method-closed", { about: one.method, reason: "OPERATION_TIME_LIMIT" })
    // A refusal without any text may be the packing's own fault: a read asks again alone.
    if (outcome._tag === "Refused" && one.isRead && outcome.code === "" && isMute(outcome.body))
      return yield* goAlone(one)
    return yield* settle(one, outcome, true)
  })

  /** Learns from an HTTP request, and raises the alarms that it gives reason for. */
  const learn = (method: string, credential: string, outcome: Outcome) =>
    Effect.suspend(() => {
      const before = limits
      limits = Limits.learn(limits, now(), method, outcome, live().concurrency)
      if (outcome._tag === "Done") tally.credentialAccepted(credential)
      if (outcome._tag === "Refused" && outcome.alarm === "credential") {
        tally.credentialRefused(credential, outcome.code, methodIn(method))
        return tell("credential-refused", { about: credential, reason: outcome.code })
      }
      if (outcome._tag === "Unavailable" || (outcome._tag === "Unknown" && outcome.silent)) {
        Queue.offerUnsafe(suspicions, outcome.reason)
        accountBlocked = outcome._tag === "Unavailable" && outcome.alarm === "account"
        return accountBlocked ? tell("account-blocked", { reason: outcome.reason }) : Effect.void
      }
      if (outcome._tag !== "Limited") return Effect.void
      if (outcome.scope === "method") return tell("method-closed", { about: method, reason: "OPERATION_TIME_LIMIT" })
      return limits.pausedUntil === before.pausedUntil
        ? Effect.void
        : tell("rate-refused", { pause_ms: Math.round(limits.pausedUntil - now()) })
    })

  /** What becomes of one request after its call. */
  const settle = Effect.fnUntraced(function* (one: Waiting, outcome: Outcome, packed: boolean) {
    switch (outcome._tag) {
      case "Refused":
        tally.refused({ ...one.request, code: outcome.code })
        return sent(one, outcome, packed)
      case "Done":
        return sent(one, outcome, packed)
      case "Limited":
      case "Unavailable":
        return yield* back(one)
      case "Unknown":
        if (!one.isRead) return sent(one, outcome, packed)
        room.enter(one)
        if (outcome.silent) one.undecided = outcome
        else yield* count(one, outcome)
    }
  })

  /** An attempt to read failed though the portal lives: wait and try again, or give up at the end of the schedule. */
  const count = Effect.fnUntraced(function* (one: Waiting, outcome: UnknownOutcome) {
    one.undecided = undefined
    one.pause ??= yield* readPause
    if (outcome.timedOut) yield* one.pause
    const wait = yield* one.pause
    if (wait === undefined) sent(one, outcome, false)
    else one.notBefore = now() + wait
    wake()
  })

  /** Probes after each suspicion until the portal answers steadily; only its verdict makes the portal unavailable. */
  const watch = Effect.gen(function* () {
    const reason = yield* Queue.take(suspicions)
    const suspectSince = now()
    const pause = yield* Schedule.toStepWithSleep(Schedule.jittered(probeSchedule))
    while (limits.health !== "well" || !Limits.steady(limits)) {
      limits = Limits.left(limits, now())
      const wasAway = limits.health === "away"
      const seen = yield* portal.probe
      record(portalRequests.probe[resultOf(seen)], 1)
      const lives = provesLife(seen)
      limits = Limits.probed(limits, lives)
      if (lives) {
        for (const one of room.everyone) if (one.undecided !== undefined) yield* count(one, one.undecided)
        wake()
        if (!wasAway) continue
        healthSince = now()
        awayReason = undefined
        yield* SubscriptionRef.set(health, "well")
        yield* tell("portal-back", { seconds: Math.round((now() - suspectSince) / 1_000) })
      } else {
        // An outage is nobody's attempt.
        for (const one of room.everyone) one.undecided = undefined
        if (!wasAway) {
          healthSince = now()
          awayReason = reason
          yield* tell("portal-away", { reason })
        }
        yield* SubscriptionRef.set(health, "away")
        yield* Effect.orDie(pause(undefined))
      }
    }
  })

  const decide = Effect.gen(function* () {
    const wait = decideOnce()
    if (wait === Infinity) yield* Queue.take(wakes)
    else yield* Effect.timeoutOption(Queue.take(wakes), Math.max(1, wait))
  })

  /** Decides again when somebody may be too old. A timer for each decision costs 7 % more CPU. */
  const mindAges = Effect.gen(function* () {
    yield* Effect.sleep(ageStep)
    if (room.mayExpire(clock.currentTimeMillisUnsafe())) wake()
  })

  const follow = Stream.runForEach(
    Stream.merge(
      Stream.merge(SubscriptionRef.changes(outlet.closed), SubscriptionRef.changes(journal.state)),
      SubscriptionRef.changes(pause.since)
    ),
    () => Effect.sync(wake)
  )

  /** What keeps all of them from leaving. */
  const standstill = () => (isPaused() ? "pause" : answersCannotGo() ? "broker" : undefined)

  const seen = (): Seen => {
    const scene = sceneNow()
    const { at, ceiling } = scene
    const turn = new Turn(scene)
    return {
      at,
      limits,
      calls: inFlight,
      requests: travelling,
      allowed: Limits.concurrencyOf(limits, at, ceiling),
      waiting: waitsIn(scene, turn, standstill()),
      methods: methodsIn(scene),
      perCall: perCallIn(scene, turn, batched),
      callTakes,
      health: { state: SubscriptionRef.getUnsafe(health), since: healthSince, reason: awayReason },
      accountBlocked: accountBlocked && limits.health === "away"
    }
  }

  const couldLeave = () => {
    if (room.isClosing || isPaused() || answersCannotGo() || room.size === 0) return false
    const seen = sceneNow()
    if (Limits.room(limits, seen.at, inFlight, seen.ceiling).calls < 1) return false
    const turn = new Turn(seen)
    const patience = Limits.linger(limits, seen.at)
    return room.everyone.some((one) => one.since + patience < seen.at && turn.obstacle(one) === undefined)
  }

  const held = () => new Set([...room.everyone, ...[...calls.keys()].flat()].map(({ request }) => request.id))

  return Dispatch.of({
    run: Effect.forever(decide).pipe(
      Effect.raceFirst(Effect.forever(watch)),
      Effect.raceFirst(settings.maxAge === undefined ? Effect.never : Effect.forever(mindAges)),
      Effect.raceFirst(Effect.andThen(follow, Effect.never))
    ),
    ask: (asker) =>
      Effect.callback((resume) => {
        const one: Waiting = {
          ...asker,
          lane: `${asker.queue} ${asker.request.credential}`,
          method: methodOf(asker.request),
          since: now(),
          leave: (reply) => resume(Effect.succeed(reply)),
          attempts: 0,
          sentAt: 0,
          notBefore: 0,
          undecided: undefined,
          pause: undefined,
          command: undefined
        }
        room.enter(one)
        wake()
        return Effect.sync(() => {
          room.exit(one)
          wake()
        })
      }),
    lines: room.lines,
    closedUntil: (request, isRead) => {
      if (!isRead && !mayWrite()) return now() + withoutJournal
      const method = methodOf(request)
      return Limits.methodTime(limits, now(), method, underWay.get(method) ?? 0).until
    },
    look: Effect.sync(() => {
      room.look()
      wake()
    }),
    close: Effect.sync(() => {
      room.close()
      wake()
    }),
    health,
    seen: Effect.sync(seen),
    find: (messageId) => Effect.sync(() => whereaboutsIn(sceneNow(), standstill(), messageId)),
    activity: {
      held,
      oldestCall: () => calls.values().next().value,
      couldLeave,
      left: () => left,
      ended: () => ended
    }
  })
})

/** The method with its credential, as the portal counts operating time. */
const methodOf = ({ credential, method }: Request) => `${credential} ${method.toLowerCase()}`

const methodIn = (method: string) => method.slice(method.indexOf(" ") + 1)
/** The word for what a call came to. */
const resultOf = ({ _tag }: Outcome) => _tag.toLowerCase() as Lowercase<Outcome["_tag"]>

/** An error that says nothing at all. */
const isMute = (body: Uint8Array) =>
  body.length < 100 && Buffer.from(body).toString("utf8").startsWith(`{"error":"","error_description":""`)
