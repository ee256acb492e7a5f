import { Clock, Context, Duration, Effect, Layer, Option, SubscriptionRef } from "effect"
import { Dispatch } from "../bridge/dispatch.ts"
import { type Journey, Journeys } from "../bridge/journeys.ts"
import { tell } from "../events.ts"
import { Journal } from "../journal/journal.ts"
import { Connection } from "../queue/connection.ts"
import { Intake } from "../queue/intake.ts"
import { Outlet } from "../queue/outlet.ts"
import { lookAt } from "../queue/topology.ts"
import { Settings } from "../settings.ts"
import { atStart, isHopeless, next, type Part, type Remedy, stalls, type Suspicion, type Verdict } from "./stall.ts"
import { Systemd } from "./systemd.ts"

/** Something that should move and does not. */
export interface Stall {
  readonly part: Part
  readonly what: string
}

/**
 * Sees to it that work moves. What waits for a reason (an outage, an alarm, a budget, order, a journal that cannot be
 * written, an answer queue that refuses) is left alone; what waits for none is restarted, and if that does not help systemd
 * gets no more signs of life, so that it starts the process again.
 */
export class Progress extends Context.Service<
  Progress,
  {
    /** What should move and does not; empty while all is well. */
    readonly stalls: SubscriptionRef.SubscriptionRef<ReadonlyArray<Stall>>
    /** Watches until it is interrupted. To be run once: until then, and after it, systemd is told that all is well. */
    readonly run: Effect.Effect<never>
  }
>()("b24rmq/Progress") {
  static readonly layer = Layer.effect(
    Progress,
    Effect.suspend(() => open(1))
  )

  /** With every bound so many times as long. */
  static readonly layerWith = (scale: number) =>
    Layer.effect(
      Progress,
      Effect.suspend(() => open(scale))
    )
}

/** In milliseconds. Noticing and the first remedy together have to take less than half a minute. */
const bounds = {
  tick: 1_000,
  calm: 60_000,
  /** What has been as it is for less is not worth a closer look. */
  young: 5_000,
  /** Between two looks at a queue from which nothing comes, and at one that holds requests all the same. */
  look: 10_000,
  lookAgain: 5_000,
  /** A delivery that nobody works on; a consumer that gets nothing of what its queue holds; a request that is lost inside. */
  inProcess: 10_000,
  /** A journal that answers: its own limits are shorter. */
  journal: 30_000,
  /** The next confirm. A broker with a slow disk needs seconds. */
  confirm: 20_000,
  /** A call beyond the end that the client itself has set to it. */
  call: 20_000
}

/** The client gives a call up so long after the portal's own limit. */
const callPatience = 10_000

/** What a remedy does, in words. */
const doing: Readonly<Record<Remedy, string>> = {
  intake: "giving back what is open and consuming on a new channel",
  dispatch: "looking again at those who wait",
  outlet: "opening a new channel for answers",
  connection: "connecting to the broker again"
}

const open = Effect.fnUntraced(function* (scale: number) {
  const settings = yield* Settings
  const connection = yield* Connection
  const intake = yield* Intake
  const outlet = yield* Outlet
  const dispatch = yield* Dispatch
  const journal = yield* Journal
  const journeys = yield* Journeys
  const systemd = yield* Systemd
  const clock = yield* Clock.Clock
  const current = yield* SubscriptionRef.make<ReadonlyArray<Stall>>([])
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  const bound = (name: keyof typeof bounds) => bounds[name] * scale
  const callLimit = Duration.toMillis(settings.portalLimit) + callPatience
  let watch = atStart(now())
  let isWatching = false

  /** What was last seen of queues from which nothing comes. */
  const looks = new Map<string, { readonly at: number; readonly idleSince: number; readonly holds: boolean }>()
  /** What had come from the broker, and when it was last more. */
  let heard = { received: 0, at: now() }
  /** How many answers were confirmed when the broker was found to confirm everything but these. */
  let excused: number | undefined

  /** Another consumer may be the one that is served. */
  const look = Effect.fnUntraced(function* (queue: string, idleSince: number) {
    const link = SubscriptionRef.getUnsafe(connection.link)
    if (link === undefined) return
    looks.set(queue, { at: now(), idleSince, holds: looks.get(queue)?.holds ?? false })
    const seen = yield* Effect.option(lookAt(link, queue))
    const holds = Option.match(seen, {
      onNone: () => false,
      onSome: ({ consumerCount, messageCount }) => consumerCount <= 1 && messageCount > 0
    })
    looks.set(queue, { at: now(), idleSince, holds })
  })

  /** Deliveries that nobody works on, and consumers that get nothing of what their queue holds. */
  const ofIntake = Effect.gen(function* () {
    const suspicions: Array<Suspicion> = []
    const about = { part: "intake", limit: bound("inProcess") } as const
    for (const { queue, open, idleSince } of yield* intake.held) {
      for (const { delivery } of open) {
        if (journeys.isUnderWay(delivery)) continue
        suspicions.push({ ...about, key: delivery, what: `nobody works on a request that ${queue} has brought` })
      }
      if (idleSince === undefined || now() - idleSince < bound("young")) continue
      const last = looks.get(queue)
      if (last === undefined || now() - last.at >= bound(last.holds ? "lookAgain" : "look"))
        yield* Effect.forkScoped(look(queue, idleSince))
      if (last?.holds !== true || last.idleSince !== idleSince) continue
      suspicions.push({ ...about, key: `${queue} ${idleSince}`, what: `${queue} holds requests and brings none` })
    }
    return suspicions
  })

  /** Requests that are at none of the places where they may wait. */
  const ofBridge = Effect.gen(function* () {
    const at = now()
    const isReady = SubscriptionRef.getUnsafe(journal.state)._tag === "ready"
    const isOpen = SubscriptionRef.getUnsafe(outlet.closed) === undefined
    const unconfirmed = yield* outlet.unconfirmed
    let held: ReadonlySet<string> | undefined
    const suspect = ({ request, stage }: Journey) => {
      if (stage === "journal" && isReady) return { limit: bound("journal"), what: "the journal does not answer" }
      if (stage === "answer" && isOpen && unconfirmed.count === 0)
        return { limit: bound("confirm"), what: "an answer is not published" }
      if (stage !== "waiting" || request === undefined) return undefined
      held ??= dispatch.activity.held()
      if (held.has(request.id)) return undefined
      return { limit: bound("inProcess"), what: "a request that should wait for its call is not there" }
    }
    const suspicions: Array<Suspicion> = []
    for (const journey of journeys.all()) {
      const found = at - journey.since < bound("young") ? undefined : suspect(journey)
      if (found === undefined) continue
      suspicions.push({ ...found, part: "bridge", key: `journey ${journey.number} ${journey.stage}` })
    }
    return suspicions
  })

  const ofDispatch = (): ReadonlyArray<Suspicion> => {
    const { activity } = dispatch
    if (!activity.couldLeave()) return []
    return [
      {
        key: `dispatch ${activity.left()}`,
        part: "dispatch",
        limit: bound("inProcess"),
        what: "requests wait though they could be called"
      }
    ]
  }

  const ofPortal = (): ReadonlyArray<Suspicion> => {
    const oldest = dispatch.activity.oldestCall()
    const isReady = SubscriptionRef.getUnsafe(journal.state)._tag === "ready"
    if (oldest === undefined || !isReady || now() - oldest < callLimit) return []
    return [{ key: `call ${oldest}`, part: "portal", limit: bound("call"), what: "a call does not end" }]
  }

  /** Nothing comes from the broker, no heartbeat either: whether the link lives the connection will know soon. */
  const isMute = () => {
    const link = SubscriptionRef.getUnsafe(connection.link)
    const received = link?.received() ?? 0
    if (received !== heard.received) heard = { received, at: now() }
    return link !== undefined && link.heartbeat > 0 && now() - heard.at > 800 * link.heartbeat
  }

  const ofOutlet = Effect.gen(function* () {
    const { confirmed, count, next: oldest } = yield* outlet.unconfirmed
    if (excused !== confirmed) excused = undefined
    const waits = isMute() || SubscriptionRef.getUnsafe(outlet.closed) !== undefined
    if (count === 0 || excused !== undefined || waits) return []
    const what = `${settings.ampqOut} does not confirm an answer`
    return [{ key: oldest, part: "outlet", limit: bound("confirm"), what } satisfies Suspicion]
  })

  const actions: Readonly<Record<Remedy, Effect.Effect<void>>> = {
    intake: intake.restart,
    dispatch: dispatch.look,
    outlet: outlet.restart,
    connection: connection.restart
  }

  /**
   * A new channel did not help. Where the broker confirms what goes to no queue, link and channel are well: it is the
   * answer queue (a quorum queue without its majority), and no restart of ours would help.
   */
  const isQueuesFault = Effect.fnUntraced(function* ({ part, remedy }: Extract<Verdict, { _tag: "Stalled" }>) {
    if (part !== "outlet" || remedy === "outlet") return false
    const confirms = yield* Effect.timeoutOption(outlet.confirms, bound("young"))
    if (Option.isNone(confirms) || !confirms.value) return false
    excused = (yield* outlet.unconfirmed).confirmed
    yield* tell("answers-unconfirmed", { queue: settings.ampqOut })
    return true
  })

  const act = Effect.fnUntraced(function* (verdict: Verdict) {
    const { part } = verdict
    const seconds = Math.round(verdict.ms / 1_000)
    if (verdict._tag === "Over") {
      const isExcused = part === "outlet" && excused !== undefined
      return isExcused ? undefined : yield* tell("stall-over", { part, seconds })
    }
    if (yield* isQueuesFault(verdict)) return
    const { remedy, what } = verdict
    if (remedy === undefined) return yield* tell("stall-stays", { part, reason: what, seconds })
    yield* tell("stalled", { part, reason: what, seconds, remedy: doing[remedy] })
    yield* actions[remedy]
  })

  const once = Effect.gen(function* () {
    const suspicions = [
      ...(yield* ofIntake),
      ...(yield* ofBridge),
      ...ofDispatch(),
      ...ofPortal(),
      ...(yield* ofOutlet)
    ]
    const { activity } = dispatch
    const progress = {
      intake: journeys.begun(),
      bridge: journeys.ended(),
      dispatch: activity.left(),
      portal: activity.ended(),
      outlet: (yield* outlet.unconfirmed).confirmed
    }
    const [after, verdicts] = next(
      watch,
      { at: now(), suspicions, progress },
      { tick: bound("tick"), calm: bound("calm") }
    )
    watch = after
    yield* SubscriptionRef.set(current, stalls(watch))
    // Not waited for: whoever watches must not stand still.
    for (const verdict of verdicts) yield* Effect.forkScoped(act(verdict))
    yield* Effect.sleep(bound("tick"))
  })

  const run = Effect.acquireUseRelease(
    Effect.sync(() => {
      watch = atStart(now())
      isWatching = true
    }),
    () => Effect.scoped(Effect.forever(once)),
    () => Effect.sync(() => void (isWatching = false))
  )

  /** Whoever watches does so, and has hope. */
  const isWell = () => !isWatching || (!isHopeless(watch) && now() - watch.at < 10 * bound("tick"))

  const feed = Effect.suspend(() => (isWell() ? systemd.watchdog : Effect.void))
  if (Option.isSome(systemd.watchdogInterval)) {
    yield* feed.pipe(Effect.andThen(Effect.sleep(systemd.watchdogInterval.value)), Effect.forever, Effect.forkScoped)
  }
  return Progress.of({ stalls: current, run })
})
