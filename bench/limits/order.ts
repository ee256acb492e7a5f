import { Effect, Fiber } from "effect"
import type { Fault } from "../../src/sandbox/portal/faults.ts"
import type { Portal } from "../../src/sandbox/portal/server.ts"
import { type Answers, type Message, publishAll, queueRequest } from "../../test/rig/producer.ts"
import type { Report } from "./report.ts"
import { packed, queueIn, scene, wrongs } from "./scene.ts"
import { sizes } from "./witness.ts"

export interface OrderRun {
  readonly run: string
  readonly entities: number
  readonly updates: number
  /** Milliseconds that an update takes. */
  readonly command: number
  readonly pack: "reads" | "all"
  /** How often each of the portal's faults strikes a call, until the last updates come. */
  readonly probability: number
  /** How often an administrator closes the connections to the broker, and how often the portal's door is shut. */
  readonly closings: number
  /** Calls a second that the portal takes, where the bridge was told twice as many: what it refuses comes again. */
  readonly rate?: number
  readonly seed: number
}

const users = 4

/** The same draws on every machine for one seed (mulberry32). */
const generator = (seed: number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

interface Update {
  readonly entity: number
  readonly number: number
  readonly message: Message
}

const userOf = (entity: number) => `${1 + (entity % users)}`

/** All updates: those of one entity in their order, the entities mixed at random. */
const updatesOf = ({ entities, updates, seed }: OrderRun): ReadonlyArray<Update> => {
  const random = generator(seed)
  const next = Array.from({ length: entities }, () => 1)
  const open = Array.from({ length: entities }, (_, index) => index)
  const all: Array<Update> = []
  while (open.length > 0) {
    const at = Math.floor(random() * open.length)
    const index = open[at] ?? 0
    const entity = index + 1
    const number = next[index] ?? 0
    next[index] = number + 1
    if (number === updates) open.splice(at, 1)
    const message = queueRequest({
      method: "crm.deal.update",
      user: userOf(entity),
      params: { id: `${entity}`, fields: { TITLE: `${entity}:${number}` } }
    })
    all.push({ entity, number, message })
  }
  return all
}

/** What goes wrong at the portal: before the update ran, after it, and nobody knows. */
const faults = (probability: number, seed: number): ReadonlyArray<Fault> => [
  { kind: "html", status: 502, when: { probability, seed } },
  { kind: "html", status: 502, executed: true, when: { probability, seed: seed + 1 } },
  { kind: "reset", when: { probability, seed: seed + 2 } }
]

/**
 * Walks through the portal's log: an update that ran after a later one of its entity is an inversion. One that ran twice in
 * a row is none: an update in doubt is sent again.
 */
const inversionsIn = (portal: Portal): { readonly inversions: number; readonly ran: ReadonlySet<string> } => {
  const latest = new Map<string, number>()
  const ran = new Set<string>()
  let inversions = 0
  for (const { method, user, key = "", error } of portal.executions) {
    if (method !== "crm.deal.update" || error !== undefined) continue
    const [entity = "", number = "0"] = key.split(":")
    const line = `${user} ${entity}`
    if (Number(number) < (latest.get(line) ?? 0)) inversions++
    latest.set(line, Math.max(latest.get(line) ?? 0, Number(number)))
    ran.add(key)
  }
  return { inversions, ran }
}

const outcomeOf = ({ message }: Update, answers: Answers) => answers.get(message.id ?? "")?.[0]?.outcome

/** Updates of many entities while the portal and the broker fail. */
export const inOrder = (options: OrderRun) =>
  Effect.gen(function* () {
    const { entities, updates, command, pack, probability, closings, rate, seed } = options
    const { broker, portal, seen, answers, start, saw } = yield* scene({
      latency: command,
      ...(rate === undefined ? {} : { limits: { rate: { burst: 50, fall: rate } } })
    })
    for (let entity = 1; entity <= entities; entity++) portal.crm.table("deal").add([["TITLE", `${entity}:0`]])
    const all = updatesOf(options)
    const sent = all.map(({ message }) => message)
    yield* publishAll(broker.url, queueIn, sent)
    for (const fault of faults(probability, seed)) portal.fault(fault)
    const started = performance.now()
    yield* start({
      B24RMQ_PACK: pack,
      B24RMQ_PORTAL_LIMIT: "1",
      ...(rate === undefined ? {} : { B24RMQ_RATE: `${rate * 2}/50` })
    })
    // The last fifth comes without faults: so the last update of each entity is known to have run.
    const faulty = Math.floor(all.length * 0.8)
    const calm = yield* Effect.forkScoped(
      Effect.andThen(
        saw("four fifths", ({ count }) => count("crm.deal.update") >= faulty, "20 minutes"),
        Effect.sync(() => portal.clearFaults())
      )
    )
    for (let n = 1; n <= closings; n++) {
      yield* saw(
        "enough updates for the next fault",
        ({ count }) => count("crm.deal.update") >= (faulty * n) / (closings + 1),
        "20 minutes"
      )
      yield* broker.closeConnections
      const more = portal.count("crm.deal.update") + entities / 4
      yield* saw("updates after the broker's fault", ({ count }) => count("crm.deal.update") >= Math.min(more, faulty))
      yield* portal.down
      yield* Effect.sleep(500)
      yield* portal.up
    }
    yield* Fiber.join(calm)
    const got = yield* answers.has(sent.length, "20 minutes")
    const took = performance.now() - started
    const { inversions, ran } = inversionsIn(portal)
    const table = portal.crm.table("deal")
    const notLast = Array.from({ length: entities }, (_, index) => index + 1).filter(
      (entity) => table.get(entity)?.get("TITLE") !== `${entity}:${updates}`
    )
    const doneButNotRun = all.filter(
      (update) => outcomeOf(update, got) === "done" && !ran.has(`${update.entity}:${update.number}`)
    )
    const unknown = all.filter((update) => outcomeOf(update, got) === "unknown")
    const { unanswered } = wrongs(sent, got)
    const report: Report = {
      experiment: "order",
      run: options.run,
      figures: {
        entities,
        updates: all.length,
        "command ms": command,
        "took s": took / 1_000,
        "one by one s": (all.length * command) / 1_000,
        "in flight": portal.maxInFlight,
        "HTTP requests": seen.arrivals.length,
        sizes: sizes(seen),
        packed: packed(got),
        "answered unknown": unknown.length,
        "of them had run": unknown.filter(({ entity, number }) => ran.has(`${entity}:${number}`)).length,
        "sent again": portal.doubles().length,
        refusals: seen.refusals.length,
        "broker closings": closings,
        "portal closings": closings
      },
      targets: [
        { what: "inversions", measured: inversions, atMost: 0 },
        { what: "entities whose last state is not their last update", measured: notLast.length, atMost: 0 },
        { what: "done but not run", measured: doneButNotRun.length, atMost: 0 },
        { what: "answered unknown", measured: unknown.length, atMost: 0 },
        { what: "not answered", measured: unanswered, atMost: 0 }
      ]
    }
    return report
  }).pipe(Effect.scoped)

export const orderRuns = (scale: number): ReadonlyArray<OrderRun> => {
  const common = {
    entities: Math.max(8, Math.round(200 * scale)),
    updates: 50,
    command: 20,
    probability: 0.002,
    closings: 4,
    seed: 11
  }
  return [
    { ...common, run: "no faults, one by one", pack: "reads", probability: 0, closings: 0 },
    { ...common, run: "faults, one by one", pack: "reads" },
    { ...common, run: "faults, packed", pack: "all" },
    { ...common, run: "refused for the rate", pack: "reads", probability: 0, closings: 0, rate: 100 }
  ]
}
