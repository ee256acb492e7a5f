import { Redacted } from "effect"
import { type Reply, type Waiting, WaitingRoom } from "../../src/bridge/room.ts"
import { batchOf, duesOf, Turn } from "../../src/bridge/turn.ts"
import * as Limits from "../../src/portal/limits.ts"
import { Done, Limited, type Outcome } from "../../src/portal/outcome.ts"
import type { Credential } from "../../src/sandbox/portal/credentials.ts"
import { type Ledger, limitsOf, OperatingSums, RateBuckets } from "../../src/sandbox/portal/limits.ts"

/** What is asked of a portal, on a clock that only counts. Times are milliseconds. */
export interface Play {
  /** Names of methods, in the order in which they lie in the queue; all of them are there from the beginning. */
  readonly queue: ReadonlyArray<string>
  /** What each takes. */
  readonly takes: Readonly<Record<string, number>>
  readonly payer: "methods" | "batch"
  /** Seconds that a method may take in ten buckets, and the milliseconds of one. */
  readonly limit: number
  readonly bucket: number
  readonly burst: number
  readonly fall: number
  /** Deliveries that may be open. */
  readonly window?: number
  /** On the way to the portal and back. */
  readonly way?: number
}

export interface Played {
  /** When the last of each method was done. */
  readonly last: ReadonlyMap<string, number>
  /** When each call left, and the methods in it. */
  readonly calls: ReadonlyArray<{ readonly at: number; readonly members: ReadonlyArray<string> }>
  /** When one was refused for its operating time, and when for the rate. */
  readonly tooLong: ReadonlyArray<number>
  readonly tooMany: ReadonlyArray<number>
  /** Those that rested, counted each time. */
  readonly rested: number
}

const credential = { kind: "webhook", user: "1", secret: "s" } as unknown as Credential
const body = Buffer.from("{}")
const concurrency = 16

/** The decisions of the waiting room and the limits of the simulated portal, without anything that takes real time. */
export const play = (options: Play): Played => {
  const { takes, burst, fall, window = 1_000, way = 2 } = options
  const rules = limitsOf({
    rate: { burst, fall },
    operating: { state: "on", limit: options.limit, bucket: options.bucket, payer: options.payer }
  })
  const sums = new OperatingSums(rules.operating)
  const rate = new RateBuckets(rules.rate)
  const events: Array<{ at: number; act: () => void }> = []
  const room = new WaitingRoom(() => undefined)
  const underWay = new Map<string, number>()
  const last = new Map<string, number>()
  const calls: Array<{ at: number; members: ReadonlyArray<string> }> = []
  const tooLong: Array<number> = []
  const tooMany: Array<number> = []
  const parked: Array<string> = []
  let now = 1_000_000
  const start = now
  let limits = Limits.atStart(now, { rate: fall, depth: burst }, "box.example")
  let inFlight = 0
  let open = 0
  let fetched = 0
  let next = 0
  let rested = 0
  let fetchAt = Infinity

  const at = (time: number, act: () => void) => {
    const place = events.findIndex((event) => event.at > time)
    events.splice(place < 0 ? events.length : place, 0, { at: time, act })
  }

  const arrive = (name: string, queue: string, left: (reply: Reply) => void) =>
    room.enter({
      request: {
        id: "id",
        messageId: "m",
        correlationId: undefined,
        method: name,
        user: "1",
        token: Redacted.make("s"),
        credential: "1#s",
        body,
        parameters: {},
        order: undefined
      },
      isRead: true,
      queue,
      place: undefined,
      mayRest: () => true,
      crowds: () => queue === "parked" || 2 * open >= window,
      deadline: undefined,
      isLost: () => false,
      lane: `${queue} 1#s`,
      method: `1#s ${name}`,
      since: now,
      leave: left,
      attempts: 0,
      sentAt: 0,
      notBefore: 0,
      undecided: undefined,
      pause: undefined,
      most: 50,
      command: name
    })

  const rest = (name: string, reply: Reply) => {
    if (reply._tag !== "Closed") return void last.set(name, now)
    rested++
    parked.push(name)
    fetchAt = Math.min(fetchAt, reply.until ?? now + 1_000)
  }

  const take = () => {
    while (open < window && next < options.queue.length) {
      const name = options.queue[next++] ?? ""
      open++
      arrive(name, "in", (reply) => {
        open--
        rest(name, reply)
      })
    }
  }

  const fetch = () => {
    fetchAt = Infinity
    const kept: Array<string> = []
    for (const name of parked.splice(0)) {
      const opens = Limits.methodTime(limits, now, `1#s ${name}`, underWay.get(`1#s ${name}`) ?? 0).until
      if (opens !== undefined) fetchAt = Math.min(fetchAt, opens)
      if (opens !== undefined || fetched >= window) kept.push(name)
      else {
        fetched++
        arrive(name, "parked", (reply) => {
          fetched--
          rest(name, reply)
          if (parked.length > 0 && 2 * fetched <= window) fetchAt = Math.min(fetchAt, now)
        })
      }
    }
    parked.push(...kept)
  }

  const add = (dues: ReadonlyMap<string, number>, sign: number) => {
    for (const [name, seconds] of dues) {
      const sum = (underWay.get(name) ?? 0) + sign * seconds
      if (sum < 1e-6) underWay.delete(name)
      else underWay.set(name, sum)
    }
  }

  const depart = (members: ReadonlyArray<Waiting>) => {
    const [first] = members
    if (first === undefined) return
    const dues = duesOf(limits, members)
    const isBatch = members.length > 1
    const batchPays = isBatch && options.payer === "batch"
    const ledger: Ledger = new Map()
    inFlight++
    limits = Limits.left(limits, now)
    add(dues, 1)
    for (const one of members) room.exit(one)
    calls.push({ at: now - start, members: members.map(({ request }) => request.method) })
    const finish = (outcomes: ReadonlyArray<Outcome>, whole: Outcome) =>
      at(now + way, () => {
        limits = Limits.learn(limits, now, isBatch ? batchOf(first) : first.method, whole, concurrency)
        for (const [n, one] of members.entries()) {
          const outcome = isBatch && whole._tag === "Done" ? (outcomes[n] ?? whole) : whole
          if (isBatch && whole._tag === "Done")
            limits = Limits.learnMember(limits, now, one.method, batchOf(one), outcome)
          if (outcome._tag === "Done")
            room.leave(one, { _tag: "Sent", outcome, attempts: 1, packed: isBatch, sentAt: 0, endedAt: 0 })
          else room.enter(one)
        }
        inFlight--
        add(dues, -1)
      })
    const time = (name: string, took: number) => {
      const { sum, resetAt } = sums.operating(credential, name, ledger, now) ?? { sum: 0, resetAt: 0 }
      return { sum, resetIn: Math.max(0, resetAt - now / 1_000), took }
    }
    const refuse = (outcome: Outcome, list: Array<number>) => {
      list.push(now - start)
      return outcome
    }
    const begin = () => {
      if (!rate.admits("us", now)) return finish([], refuse(Limited({ scope: "portal" }), tooMany))
      if (batchPays && sums.blocks(credential, "batch", ledger, now))
        return finish([], refuse(Limited({ scope: "method" }), tooLong))
      const began = now
      const frozen = time("batch", 0)
      const outcomes: Array<Outcome> = []
      const end = () => {
        if (batchPays) sums.note(ledger, "batch", (now - began) / 1_000)
        const whole = isBatch
          ? Done({ status: 200, body, time: time("batch", (now - began) / 1_000) })
          : (outcomes[0] ?? Done({ status: 200, body, time: undefined }))
        sums.book(credential, ledger, now)
        finish(outcomes, whole)
      }
      const run = () => {
        const one = members[outcomes.length]
        if (one === undefined) return end()
        const name = one.request.method
        if (!batchPays && sums.blocks(credential, name, ledger, now)) {
          outcomes.push(refuse(Limited({ scope: "method" }), tooLong))
          return run()
        }
        const took = takes[name] ?? 0
        at(now + took, () => {
          if (!batchPays) sums.note(ledger, name, took / 1_000)
          const told = batchPays ? { ...frozen, took: took / 1_000 } : time(name, took / 1_000)
          outcomes.push(Done({ status: 200, body, time: told }))
          run()
        })
      }
      run()
    }
    at(now + way, begin)
  }

  /** Turns in which nothing happened, one after another: time alone must not be waited for in vain. */
  let idle = 0
  for (;;) {
    take()
    if (now >= fetchAt) fetch()
    const turn = new Turn({
      room,
      limits,
      at: now,
      inFlight,
      underWay,
      ceiling: concurrency,
      pack: "reads",
      mayWrite: true,
      portalLimit: 60
    })
    const { departures, soonest } = turn.decide()
    idle = departures.length > 0 || turn.resting.length > 0 || (events[0]?.at ?? Infinity) <= soonest ? 0 : idle + 1
    if (idle > 100)
      throw new Error(
        `${now - start} ms: waits in vain for ${soonest - now} ms, fetches in ${fetchAt - now}, ${open} open, ${parked.length} parked`
      )
    departures.forEach(depart)
    for (const [one, until] of turn.resting) room.leave(one, { _tag: "Closed", until })
    take()
    const then = Math.min(events[0]?.at ?? Infinity, Math.max(soonest, now + 1), fetchAt)
    if (then === Infinity || now - start > 3_600_000) break
    now = Math.max(now, then)
    while ((events[0]?.at ?? Infinity) <= now) events.shift()?.act()
  }
  for (const [name, time] of last) last.set(name, time - start)
  return { last, calls, tooLong, tooMany, rested }
}
