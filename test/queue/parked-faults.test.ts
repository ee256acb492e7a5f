import { expect } from "bun:test"
import { Effect, Fiber, FiberSet } from "effect"
import type { ParkedDelivery, Verdict } from "../../src/queue/walk.ts"
import { live } from "../effect.ts"
import { declareQueues } from "../rig/producer.ts"
import { type Proxy, startProxy } from "../rig/proxy.ts"
import { type Node, victim } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import { delivery, isOpen, type Parking, queueParked, startParked } from "./parked.ts"

/** How many times as long as in `npm test` an experiment takes. */
const scale = Number(process.env["B24RMQ_FAULTS_SCALE"] ?? 1)
/** What is drawn by lot; set it to see a run again, as far as the broker plays along. */
const seed = Number(process.env["B24RMQ_SEED"] ?? Date.now() % 1_000_000)

const count = 500 * scale
const limit = 60_000 * Math.max(1, scale)

/** Numbers from 0 to 1 (mulberry32). */
const lots = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A request; every fourth is of no line. */
interface Asked {
  readonly n: number
  readonly line: string | undefined
  /** Given once, and kept however often it has to be parked. */
  ticket: number
}

const asked = (n: number): Asked => ({ n, line: n % 4 === 0 ? undefined : `line ${n % 37}`, ticket: 0 })

const textOf = ({ n, line = "" }: Asked) => JSON.stringify({ n, line })

const readOf = ({ incoming }: ParkedDelivery) =>
  JSON.parse(Buffer.from(incoming.body).toString()) as { readonly n: number; readonly line: string }

interface Execution {
  readonly n: number
  readonly line: string
  readonly ticket: number
}

/**
 * A bridge as parking means it to be: it parks those of one line one after the other, walks once before anything else,
 * and lets a request join when no lower ticket of its line is open. What it executes is written down.
 */
const bridge = (parking: Parking, todo: Array<Array<Asked>>, executions: Array<Execution>, random: () => number) => {
  /** Tickets of each line that are parked or on their way. */
  const open = new Map<string, Set<number>>()
  const met = (line: string, ticket: number) => {
    const tickets = open.get(line)
    if (tickets === undefined) open.set(line, new Set([ticket]))
    else tickets.add(ticket)
  }
  const tally = { walks: 0, cut: 0, joined: 0, kept: 0, dropped: 0, parks: 0, notParked: 0, inert: 0 }
  let executed = 0
  let isLearning = true

  const journey = Effect.fnUntraced(function* (one: ParkedDelivery) {
    const { n, line } = readOf(one)
    yield* Effect.sleep(random() * 5)
    if (one.isLost() || random() < 0.1) {
      if (one.isLost()) tally.inert++
      return one.putBack()
    }
    executions.push({ n, line, ticket: one.ticket })
    executed++
    yield* Effect.sleep(random() * 5)
    open.get(line)?.delete(one.ticket)
    one.ack()
  })

  const mayGo = (line: string, ticket: number) => {
    if (line === "") return true
    met(line, ticket)
    return !isLearning && Math.min(...(open.get(line) ?? [])) === ticket
  }

  /** Walks once; half of the methods are closed. */
  const walkOnce = (start: (effect: Effect.Effect<void>) => void) =>
    Effect.gen(function* () {
      const visit = (one: ParkedDelivery): Verdict => {
        if (!mayGo(readOf(one).line, one.ticket) || random() < 0.5) return "keep"
        start(journey(one))
        return "join"
      }
      const walked = yield* Effect.result(parking.walk(visit))
      tally.walks++
      if (walked._tag === "Failure") {
        tally.cut++
        return yield* isOpen(parking)
      }
      if (walked.success.whole) isLearning = false
      tally.joined += walked.success.joined
      tally.kept += walked.success.kept
      tally.dropped += walked.success.dropped
      return yield* Effect.yieldNow
    })

  const parkOne = Effect.fnUntraced(function* (one: Asked) {
    if (one.ticket === 0) one.ticket = yield* parking.ticket
    if (one.line !== undefined) met(one.line, one.ticket)
    const note = { ticket: one.ticket, since: 1, deadline: undefined }
    while (true) {
      const parked = yield* Effect.result(parking.park(delivery(textOf(one)), note))
      tally.parks++
      if (parked._tag === "Success") return
      expect(parked.failure._tag).toBe("NotParked")
      tally.notParked++
      yield* Effect.sleep("20 millis")
      yield* isOpen(parking)
    }
  })

  /** Parks what is to be parked, the first of a list before the next; what is done is taken off it. */
  const parkAll = Effect.forEach(
    todo,
    (list) =>
      Effect.gen(function* () {
        for (let next = list[0]; next !== undefined; next = list[0]) {
          yield* parkOne(next)
          list.shift()
        }
      }),
    { concurrency: 100, discard: true }
  )

  const run = Effect.gen(function* () {
    const start = yield* FiberSet.makeRuntime<never>()
    yield* isOpen(parking)
    yield* walkOnce(start).pipe(Effect.repeat({ until: () => !isLearning }))
    const parks = yield* Effect.forkScoped(parkAll)
    const walks = yield* Effect.forkScoped(Effect.forever(walkOnce(start)))
    return yield* Effect.raceFirst(Effect.andThen(Fiber.join(parks), Effect.never), Fiber.join(walks))
  })
  return { run, tally, executed: () => executed }
}

/** Every request was executed, those of a line in their order at first, and what was executed twice is one request. */
const check = (executions: ReadonlyArray<Execution>, all: ReadonlyArray<Asked>) => {
  const first = new Map<number, Execution>()
  for (const one of executions) if (!first.has(one.n)) first.set(one.n, one)
  const lost = all.filter(({ n }) => !first.has(n)).map(({ n }) => n)
  const highest = new Map<string, Execution>()
  const inversions: Array<string> = []
  for (const one of first.values()) {
    const before = highest.get(one.line)
    if (one.line !== "" && before !== undefined && (before.ticket > one.ticket || before.n > one.n)) {
      inversions.push(`${one.line}: ${before.n} before ${one.n}`)
    }
    highest.set(one.line, one)
  }
  const otherTicket = executions.filter(({ n, ticket }) => first.get(n)?.ticket !== ticket).length
  return { lost, inversions, otherTicket, twice: executions.length - first.size }
}

/** Requests by line, each list to be parked in its order. */
const listsOf = (all: ReadonlyArray<Asked>) => {
  const lists = new Map<string, Array<Asked>>()
  for (const one of all) {
    const key = one.line ?? `alone ${one.n}`
    lists.set(key, [...(lists.get(key) ?? []), one])
  }
  return [...lists.values()]
}

interface Trial {
  readonly name: string
  readonly url: string
  readonly type: "classic" | "quorum"
  /** Breaks something once more, and returns when it works again. */
  readonly fault: (n: number, random: () => number) => Effect.Effect<unknown, unknown>
  readonly rounds: number
  /** The bridge is killed with every so manieth fault, and forgets all that it knew. */
  readonly restartEvery?: number
}

const trial = Effect.fnUntraced(function* ({ name, url, type, fault, rounds, restartEvery = Infinity }: Trial) {
  const random = lots(seed)
  const all = Array.from({ length: count }, (_, n) => asked(n))
  const todo = listsOf(all)
  const executions: Array<Execution> = []
  const tallies: Array<object> = []
  const isDone = () => new Set(executions.map(({ n }) => n)).size === count
  const started = performance.now()
  let faults = 0
  while (!isDone()) {
    // One life of a bridge, until it is killed or all is done.
    yield* Effect.gen(function* () {
      const parking = yield* startParked(url)
      const { run, tally, executed } = bridge(parking, todo, executions, random)
      tallies.push(tally)
      const running = yield* Effect.forkScoped(run)
      const alive = (what: string, look: () => boolean) =>
        Effect.raceFirst(until(what, Effect.sync(look), { within: limit }), Fiber.join(running))
      for (let round = 1; faults < rounds && !isDone(); round++) {
        const before = executed()
        const enough = before + random() * (count / rounds)
        yield* alive("it goes on", () => executed() > enough || isDone())
        faults++
        yield* fault(faults, random)
        if (round >= restartEvery) return yield* Fiber.interrupt(running)
      }
      return yield* alive("all are executed", isDone)
    }).pipe(Effect.scoped)
  }
  const sum = (key: string) => tallies.reduce((total, tally) => total + Number(Reflect.get(tally, key)), 0)
  const names = ["walks", "cut", "joined", "kept", "dropped", "parks", "notParked", "inert"]
  const checked = check(executions, all)
  const seconds = ((performance.now() - started) / 1_000).toFixed(1)
  const sums = Object.fromEntries(names.map((key) => [key, sum(key)]))
  console.log(JSON.stringify({ name, type, seed, count, faults, lives: tallies.length, seconds, ...sums, ...checked }))
  expect(checked).toMatchObject({ lost: [], inversions: [], otherTicket: 0 })
  return checked
})

/** What is left when all were executed are second copies at most, and a whole walk removes them. */
const leavesNothing = (
  url: string,
  depth: Effect.Effect<{ readonly ready: number; readonly unacked: number }, unknown>
) =>
  Effect.gen(function* () {
    const parking = yield* startParked(url)
    yield* isOpen(parking)
    const { joined } = yield* parking.walk((one) => {
      one.ack()
      return "join"
    })
    yield* until(
      "the queue is empty",
      Effect.map(depth, ({ ready, unacked }) => ready + unacked === 0)
    )
    return joined
  }).pipe(Effect.scoped)

/** 3.10.8 may forget a durable queue, and all that is in it, if it is killed within a second of the declaration. */
const declared = (node: Node, url: string, type: "classic" | "quorum") =>
  Effect.andThen(declareQueues(url, { in: queueParked, type }), node.evaluate("mnesia:sync_log()"))

/** Resets the link at once, and perhaps the next one after some bytes; the third time the broker is killed instead. */
const harm = (node: Node, proxy: Proxy) => (n: number, random: () => number) =>
  Effect.gen(function* () {
    if (n % 5 === 3) return yield* Effect.andThen(node.kill9, node.start)
    const bytes = Math.floor(2_000 + random() * 200_000)
    if (random() < 0.5) yield* proxy.resetAfter(bytes, random() < 0.5 ? "up" : "down")
    return yield* proxy.cut
  })

// In the short form one each.
const types = (short: "classic" | "quorum") => (scale > 1 ? (["classic", "quorum"] as const) : [short])

for (const type of types("classic")) {
  live(
    `${count} requests, reset links and killed brokers: each is executed once, in order (${type})`,
    () =>
      Effect.gen(function* () {
        const node = yield* victim
        const own = yield* node.vhost()
        const proxy = yield* startProxy(own.url)
        const fault = harm(node, proxy)
        yield* declared(node, own.url, type)
        const { twice } = yield* trial({ name: "one bridge", url: proxy.url, type, fault, rounds: 5 * scale })
        expect(twice).toBe(0)
        yield* leavesNothing(own.url, own.queueDepth(queueParked))
      }),
    limit
  )
}

for (const type of types("quorum")) {
  live(
    `${count} requests, and bridges that are killed besides: none is lost, the order is kept (${type})`,
    () =>
      Effect.gen(function* () {
        const node = yield* victim
        const own = yield* node.vhost()
        const proxy = yield* startProxy(own.url)
        const fault = harm(node, proxy)
        yield* declared(node, own.url, type)
        yield* trial({ name: "many bridges", url: proxy.url, type, fault, rounds: 4 * scale, restartEvery: 2 })
        yield* leavesNothing(own.url, own.queueDepth(queueParked))
      }),
    limit
  )
}
