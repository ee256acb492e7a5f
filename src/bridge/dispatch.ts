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
import { commandOf, mostCommands, pack, unpack } from "../portal/batch.ts"
import { Portal } from "../portal/client.ts"
import * as Limits from "../portal/limits.ts"
import { judge, type Outcome, provesLife, Unknown } from "../portal/outcome.ts"
import { Outlet } from "../queue/outlet.ts"
import { probe as probeSchedule, readAgain } from "../schedules.ts"
import { Settings } from "../settings.ts"

/** How a request left the waiting room. */
export type Reply =
  | { readonly _tag: "Sent"; readonly outcome: FinalOutcome; readonly attempts: number; readonly packed: boolean }
  | { readonly _tag: "NotSent"; readonly reason: "its delivery was lost" | "the bridge stops" }

export type FinalOutcome = Extract<Outcome, { _tag: "Done" | "Refused" | "Unknown" }>

/** Who waits for a call, and what must be known of it to decide. */
export interface Asker {
  readonly request: Request
  readonly isRead: boolean
  /** The queue that it came from: queues are served in turn, and in each its credentials. */
  readonly queue: string
  /** Requests with the same line are executed one after another, as they came. */
  readonly line: string | undefined
  /** A request whose delivery is lost and that was not sent is dropped: the broker brings it again. */
  readonly isLost: () => boolean
}

export type Health = "well" | "away"

/** Why a request waits. */
export type WaitReason = Limits.WaitReason | "order" | "broker" | "repetition" | "company"

/** The waiting room: who waits, why, and what leaves next. The only one who calls the portal. */
export class Dispatch extends Context.Service<
  Dispatch,
  {
    /** Decides who goes, until it is interrupted. To be run once, and to be joined: nothing moves without it. */
    readonly run: Effect.Effect<never>
    /** Waits for its turn, calls, and repeats what was not executed and reads whose outcome is unknown. */
    readonly ask: (asker: Asker) => Effect.Effect<Reply>
    /** Looks again at those who wait: deliveries were lost. */
    readonly look: Effect.Effect<void>
    /** Starts nothing any more; who waits is told so, what is in flight goes on. */
    readonly close: Effect.Effect<void>
    /** `away` while the portal answers neither calls nor probes. */
    readonly health: SubscriptionRef.SubscriptionRef<Health>
    /** How many requests wait, by reason. */
    readonly waiting: Effect.Effect<ReadonlyMap<WaitReason, number>>
  }
>()("b24rmq/Dispatch") {
  static readonly layer = Layer.effect(
    Dispatch,
    Effect.suspend(() => open)
  )
}

interface Waiting extends Asker {
  /** Queue and credential: those who are served in turn. */
  readonly lane: string
  /** Method with its credential, as the portal counts operating time. */
  readonly method: string
  readonly since: number
  readonly leave: (reply: Reply) => void
  attempts: number
  notBefore: number
  /** Its last outcome, while the probe decides whether that counts as an attempt. */
  undecided: UnknownOutcome | undefined
  pause: ReadPause | undefined
  /** The largest batch that it may travel in: less after one was lost. */
  most: number
  /** Its command in a batch, null if it cannot travel in one; made when it is first needed. */
  command: string | null | undefined
}

type UnknownOutcome = Extract<Outcome, { _tag: "Unknown" }>

/** Milliseconds that a request which comes alone to an idle bridge need not wait for company. */
const unfelt = 100

/** Parts of the portal's own time limit that the commands of a batch may take together, as observed so far. */
const readShare = 1 / 2
const writeShare = 1 / 4

/** Stands for a call whose handling broke: whether it was executed is as unknown as can be. */
const broken: FinalOutcome = Unknown({
  reason: "a defect of the bridge",
  status: undefined,
  silent: false,
  timedOut: false
})

/** Stands for a member of a batch that its answer does not mention. */
const unmentioned = Unknown({ reason: "the batch says nothing of it", status: 200, silent: false, timedOut: false })

/** The next wait of the reading schedule in milliseconds, or undefined at its end. */
type ReadPause = Effect.Effect<number | undefined>

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
  const clock = yield* Clock.Clock
  const start = yield* FiberSet.makeRuntime<never>()
  const health = yield* SubscriptionRef.make<Health>("well")
  const wakes = yield* Queue.sliding<void>(1)
  const suspicions = yield* Queue.sliding<string>(1)

  /** Who waits, by queue and credential; those who were served last stand last. */
  const lanes = new Map<string, Set<Waiting>>()
  /** Who names the same entity, in their order; only the first may go. */
  const lines = new Map<string, Array<Waiting>>()
  /** Calls in flight of each method, those inside batches included. */
  const underWay = new Map<string, number>()
  let inFlight = 0
  let closing = false
  let swept = true
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  let limits = Limits.atStart(now(), settings.rate, settings.b24Rest.hostname)
  const live = () => MutableRef.get(settings.live)
  const wake = () => void Queue.offerUnsafe(wakes, undefined)

  const enter = (one: Waiting) => {
    if (closing || one.isLost()) swept = false
    const lane = lanes.get(one.lane)
    if (lane === undefined) lanes.set(one.lane, new Set([one]))
    else lane.add(one)
  }

  const exit = (one: Waiting) => {
    const lane = lanes.get(one.lane)
    lane?.delete(one)
    if (lane?.size === 0) lanes.delete(one.lane)
  }

  const queueUp = (one: Waiting) => {
    if (one.line === undefined) return
    const line = lines.get(one.line)
    if (line === undefined) lines.set(one.line, [one])
    else line.push(one)
  }

  const stepOut = (one: Waiting) => {
    if (one.line === undefined) return
    const rest = lines.get(one.line)?.filter((other) => other !== one) ?? []
    if (rest.length === 0) lines.delete(one.line)
    else lines.set(one.line, rest)
  }

  const leave = (one: Waiting, reply: Reply) => {
    exit(one)
    stepOut(one)
    one.leave(reply)
  }

  /** Sends away those who need not or must not wait any more. */
  const sweep = () => {
    if (swept) return
    swept = true
    for (const lane of lanes.values()) {
      for (const one of lane) {
        if (one.isLost()) leave(one, { _tag: "NotSent", reason: "its delivery was lost" })
        else if (closing) leave(one, { _tag: "NotSent", reason: "the bridge stops" })
      }
    }
  }

  /** One decision: what is known at its time, and when time alone will change something. */
  class Turn {
    readonly at = now()
    soonest = Infinity
    private readonly left = new Map<string, number>()

    later(until: number | undefined) {
      if (until !== undefined && until < this.soonest) this.soonest = until
    }

    /** How many more calls of its method may go in this turn. */
    private allowance(method: string): number {
      const known = this.left.get(method)
      if (known !== undefined) return known
      const room = Limits.methodRoom(limits, this.at, method, underWay.get(method) ?? 0)
      if (room.calls < 1) this.later(room.until)
      this.left.set(method, room.calls)
      return room.calls
    }

    /** Why a request cannot go now, or undefined if nothing but the portal's room holds it. */
    obstacle(one: Waiting): WaitReason | undefined {
      if (one.undecided !== undefined) return "portal unavailable"
      if (this.at < one.notBefore) {
        this.later(one.notBefore)
        return "repetition"
      }
      if (one.line !== undefined && lines.get(one.line)?.[0] !== one) return "order"
      if (!one.isRead && !Limits.steady(limits)) return "portal unavailable"
      return this.allowance(one.method) < 1 ? "operating time" : undefined
    }

    take(one: Waiting) {
      this.left.set(one.method, this.allowance(one.method) - 1)
    }
  }

  const commandFor = (one: Waiting): string | undefined => {
    one.command ??= commandOf(one.request.method, one.request.body) ?? null
    return one.command ?? undefined
  }

  // The third version answers a batch with one error for everybody as soon as one of its commands fails.
  const packs = !settings.b24Rest.pathname.endsWith("/api/")

  const mayBePacked = (one: Waiting): boolean => {
    const { pack } = live()
    return packs && pack !== "off" && (pack === "all" || one.isRead) && one.most > 1 && commandFor(one) !== undefined
  }

  /** The first of the ready, and who may travel with it: at most `most`, within the time that a batch may take. */
  const company = (turn: Turn, ready: ReadonlyArray<Waiting>, most: number): ReadonlyArray<Waiting> => {
    const [first] = ready
    if (first === undefined) return []
    turn.take(first)
    const members = [first]
    if (most < 2 || !mayBePacked(first) || Limits.methodRoom(limits, turn.at, batchOf(first), 0).calls < 1)
      return members
    const limit = Duration.toSeconds(settings.portalLimit)
    let took = Limits.costOf(limits, first.method)
    let share = first.isRead ? readShare : writeShare
    let largest = Math.min(most, first.most)
    for (const one of ready.slice(1)) {
      if (members.length >= largest) break
      const cost = took + Limits.costOf(limits, one.method)
      const part = one.isRead ? share : writeShare
      if (cost > limit * part || one.most <= members.length || !mayBePacked(one)) continue
      if (turn.obstacle(one) !== undefined) continue
      turn.take(one)
      members.push(one)
      took = cost
      share = part
      largest = Math.min(largest, one.most)
    }
    return members
  }

  /** The first of those in a lane that nothing holds but the portal's room: no more than could leave now. */
  const readyIn = (turn: Turn, lane: ReadonlySet<Waiting>, most: number) => {
    const ready: Array<Waiting> = []
    for (const one of lane) {
      if (ready.length >= most) break
      if (turn.obstacle(one) === undefined) ready.push(one)
    }
    return ready
  }

  /** Decides once over all who wait, starts who may go, and returns how long nothing will change by time alone. */
  const decideOnce = (): number => {
    sweep()
    if (closing) return Infinity
    const turn = new Turn()
    if (SubscriptionRef.getUnsafe(outlet.closed) !== undefined) return Infinity
    const room = Limits.room(limits, turn.at, inFlight, live().concurrency)
    if (room.calls < 1) return (room.until ?? Infinity) - turn.at
    const ready = new Map<string, ReadonlyArray<Waiting>>()
    let total = 0
    for (const [name, lane] of lanes) {
      const these = readyIn(turn, lane, room.calls * mostCommands)
      if (these.length > 0) ready.set(name, these)
      total += these.length
    }
    const patience = Limits.linger(limits, turn.at)
    for (let { calls } = room; calls > 0 && ready.size > 0;) {
      const [name, these] = ready.entries().next().value ?? ["", []]
      ready.delete(name)
      const rest = these.filter((one) => turn.obstacle(one) === undefined)
      const [first] = rest
      if (first === undefined) continue
      // With a rate to save, a call should carry as much as it can; without one, all calls that may go share the load.
      const most = patience > 0 ? mostCommands : Math.min(mostCommands, Math.ceil(total / calls))
      const waitsFor = first.since + patience
      const alone = total === 1 && inFlight === 0 && patience <= unfelt
      if (!alone && rest.length < mostCommands && waitsFor > turn.at && mayBePacked(first)) {
        turn.later(waitsFor)
        continue
      }
      const members = company(turn, rest, most)
      depart(members)
      calls--
      total -= members.length
      const gone = new Set(members)
      const others = rest.filter((one) => !gone.has(one))
      if (others.length > 0) ready.set(name, others)
      serveLast(name)
    }
    if (ready.size > 0) turn.later(Limits.room(limits, turn.at, inFlight, live().concurrency).until)
    return turn.soonest - turn.at
  }

  const serveLast = (name: string) => {
    const lane = lanes.get(name)
    if (lane === undefined) return
    lanes.delete(name)
    lanes.set(name, lane)
  }

  const addUnderWay = (method: string, change: number) => {
    const count = (underWay.get(method) ?? 0) + change
    if (count === 0) underWay.delete(method)
    else underWay.set(method, count)
  }

  const depart = (members: ReadonlyArray<Waiting>) => {
    const [first] = members
    if (first === undefined) return
    inFlight++
    limits = Limits.left(limits, now())
    for (const one of members) {
      exit(one)
      one.attempts++
      addUnderWay(one.method, 1)
    }
    const call = members.length === 1 ? alone(first) : together(members)
    start(
      call.pipe(
        Effect.catchCause((cause) => {
          for (const one of members)
            leave(one, { _tag: "Sent", outcome: broken, attempts: one.attempts, packed: false })
          return tell("broken", { message_id: first.request.messageId, cause: Cause.pretty(cause) })
        }),
        Effect.ensuring(
          Effect.sync(() => {
            inFlight--
            for (const one of members) addUnderWay(one.method, -1)
            wake()
          })
        )
      )
    )
  }

  const alone = (one: Waiting) =>
    Effect.flatMap(portal.call(one.request), (outcome) =>
      Effect.andThen(learn(one.method, one.request.credential, outcome), settle(one, outcome, false))
    )

  /** Sends several as one `batch`, and gives each what it would have got alone. */
  const together = Effect.fnUntraced(function* (members: ReadonlyArray<Waiting>) {
    const [first] = members
    if (first === undefined) return
    const body = pack(members.map((one) => commandFor(one) ?? ""))
    const outcome = yield* portal.call({ ...first.request, method: "batch", body })
    yield* learn(batchOf(first), first.request.credential, outcome)
    const answers = outcome._tag === "Done" ? unpack(outcome.body, members.length) : undefined
    for (const [n, one] of members.entries()) {
      if (answers !== undefined && outcome._tag === "Done") {
        const answer = answers[n]
        yield* settlePacked(one, answer === undefined ? unmentioned : judge(outcome.status, answer))
      } else if (outcome._tag === "Limited") {
        enter(one)
      } else if (outcome._tag === "Refused" && outcome.alarm === undefined) {
        // It was the batch that was refused, not its members: each goes alone.
        one.most = 1
        enter(one)
      } else {
        if (outcome._tag === "Unknown") one.most = Math.max(1, Math.floor(members.length / 2))
        yield* settle(one, outcome._tag === "Done" ? unmentioned : outcome, true)
      }
    }
  })

  const batchOf = (one: Waiting) => `${one.request.credential} batch`

  const settlePacked = Effect.fnUntraced(function* (one: Waiting, outcome: Outcome) {
    limits = Limits.learnMethod(limits, now(), one.method, outcome)
    if (outcome._tag === "Limited") yield* alarm("method-closed", one.method, "OPERATION_TIME_LIMIT")
    // A refusal without any text may be the packing's own fault: a read asks again alone.
    if (outcome._tag === "Refused" && one.isRead && outcome.code === "" && isMute(outcome.body)) {
      one.most = 1
      return enter(one)
    }
    return yield* settle(one, outcome, true)
  })

  const alarmed = new Map<string, number>()
  /** The same alarm again is one event for ten minutes. */
  const alarm = (event: "credential-refused" | "account-blocked" | "method-closed", about: string, reason: string) =>
    Effect.suspend(() => {
      const key = `${event} ${about} ${reason}`
      if (now() < (alarmed.get(key) ?? -Infinity)) return Effect.void
      alarmed.set(key, now() + 600_000)
      return tell(event, { about, reason })
    })

  /** Learns from an HTTP request, and raises the alarms that it gives reason for. */
  const learn = (method: string, credential: string, outcome: Outcome) =>
    Effect.suspend(() => {
      const before = limits
      limits = Limits.learn(limits, now(), method, outcome, live().concurrency)
      if (outcome._tag === "Refused" && outcome.alarm === "credential") {
        return alarm("credential-refused", credential, outcome.code)
      }
      if (outcome._tag === "Unavailable" || (outcome._tag === "Unknown" && outcome.silent)) {
        Queue.offerUnsafe(suspicions, outcome.reason)
        return outcome._tag === "Unavailable" && outcome.alarm === "account"
          ? alarm("account-blocked", "", outcome.reason)
          : Effect.void
      }
      if (outcome._tag !== "Limited") return Effect.void
      if (outcome.scope === "method") return alarm("method-closed", method, "OPERATION_TIME_LIMIT")
      return limits.pausedUntil === before.pausedUntil
        ? Effect.void
        : tell("rate-refused", { pause_ms: Math.round(limits.pausedUntil - now()) })
    })

  /** What becomes of one request after its call. */
  const settle = Effect.fnUntraced(function* (one: Waiting, outcome: Outcome, packed: boolean) {
    switch (outcome._tag) {
      case "Done":
      case "Refused":
        return leave(one, { _tag: "Sent", outcome, attempts: one.attempts, packed })
      case "Limited":
      case "Unavailable":
        return enter(one)
      case "Unknown":
        if (!one.isRead) return leave(one, { _tag: "Sent", outcome, attempts: one.attempts, packed })
        enter(one)
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
    if (wait === undefined) leave(one, { _tag: "Sent", outcome, attempts: one.attempts, packed: false })
    else one.notBefore = now() + wait
    wake()
  })

  const everyone = (): ReadonlyArray<Waiting> => Array.from(lanes.values(), (lane) => Array.from(lane)).flat()

  /** Probes after each suspicion until the portal answers steadily; only its verdict makes the portal unavailable. */
  const watch = Effect.gen(function* () {
    const reason = yield* Queue.take(suspicions)
    const suspectSince = now()
    const pause = yield* Schedule.toStepWithSleep(Schedule.jittered(probeSchedule))
    while (limits.health !== "well" || !Limits.steady(limits)) {
      limits = Limits.left(limits, now())
      const wasAway = limits.health === "away"
      const lives = provesLife(yield* portal.probe)
      limits = Limits.probed(limits, lives)
      if (lives) {
        for (const one of everyone()) if (one.undecided !== undefined) yield* count(one, one.undecided)
        wake()
        if (!wasAway) continue
        yield* SubscriptionRef.set(health, "well")
        yield* tell("portal-back", { seconds: Math.round((now() - suspectSince) / 1_000) })
      } else {
        // An outage is nobody's attempt.
        for (const one of everyone()) one.undecided = undefined
        if (!wasAway) yield* tell("portal-away", { reason })
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

  const followOutlet = Stream.runForEach(SubscriptionRef.changes(outlet.closed), () => Effect.sync(wake))

  const whyWaiting = () => {
    const turn = new Turn()
    const blocked = SubscriptionRef.getUnsafe(outlet.closed) !== undefined
    const room = Limits.room(limits, turn.at, inFlight, live().concurrency)
    const counts = new Map<WaitReason, number>()
    for (const one of everyone()) {
      const reason = blocked ? "broker" : (turn.obstacle(one) ?? (room.calls < 1 ? room.reason : "company"))
      counts.set(reason, (counts.get(reason) ?? 0) + 1)
    }
    return counts
  }

  const sweepSoon = Effect.sync(() => {
    swept = false
    wake()
  })

  return Dispatch.of({
    run: Effect.forever(decide).pipe(
      Effect.raceFirst(Effect.forever(watch)),
      Effect.raceFirst(Effect.andThen(followOutlet, Effect.never))
    ),
    ask: (asker) =>
      Effect.callback((resume) => {
        const { method, credential } = asker.request
        const one: Waiting = {
          ...asker,
          lane: `${asker.queue} ${credential}`,
          method: `${credential} ${method.toLowerCase()}`,
          since: now(),
          leave: (reply) => resume(Effect.succeed(reply)),
          attempts: 0,
          notBefore: 0,
          undecided: undefined,
          pause: undefined,
          most: mostCommands,
          command: undefined
        }
        enter(one)
        queueUp(one)
        wake()
        return Effect.sync(() => {
          exit(one)
          stepOut(one)
          wake()
        })
      }),
    look: sweepSoon,
    close: Effect.andThen(
      Effect.sync(() => {
        closing = true
      }),
      sweepSoon
    ),
    health,
    waiting: Effect.sync(whyWaiting)
  })
})

/** An error that says nothing at all. */
const isMute = (body: Uint8Array) =>
  body.length < 100 && Buffer.from(body).toString("utf8").startsWith(`{"error":"","error_description":""`)
