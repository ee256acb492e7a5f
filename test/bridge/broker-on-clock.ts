import type { MessageProperties } from "amqplib"
import { Effect, Layer, Queue, Stream, SubscriptionRef } from "effect"
import type { Delivery } from "../../src/queue/held.ts"
import { Intake, type Wanted } from "../../src/queue/intake.ts"
import { NotConfirmed, type Outgoing, Outlet } from "../../src/queue/outlet.ts"
import { isParked, NotParked, Parked, type State, WalkCut } from "../../src/queue/parked.ts"
import type { Raw } from "../../src/queue/raw.ts"
import type { Note, ParkedDelivery } from "../../src/queue/walk.ts"

/** Milliseconds until the broker has a message, and again until it has said so. */
const way = 1

interface Resting extends Note {
  readonly incoming: Raw
}

const idOf = ({ messageId = "" }: Raw) => messageId

/**
 * A broker that takes time on the test clock alone, and outlives the bridges that work on it: a queue, the queue of those
 * that are parked, and what was answered. Everything is known by its message_id.
 */
export const brokerOnClock = () => {
  const waiting: Array<Raw> = []
  const resting = new Set<Resting>()
  const answers: Array<string> = []
  /** Those that were parked, each time. */
  const parked: Array<string> = []
  let ticket = 0
  let arrived = () => {}

  /** A producer publishes a request. */
  const publish = (messageId: string, headers: Readonly<Record<string, unknown>>, parameters: object) => {
    const body = Buffer.from(JSON.stringify(parameters))
    waiting.push({
      body,
      headers,
      messageId,
      correlationId: undefined,
      timestamp: undefined,
      properties: {} as MessageProperties
    })
    arrived()
  }

  /** The broker as one bridge sees it, with a window of so many deliveries for each of both queues. */
  const session = (window: number) => {
    /** Taken and not acknowledged, in their order. */
    const open = new Set<Raw>()
    const joined = new Set<Resting>()
    const finished = new Set<number>()
    const losses = Effect.runSync(SubscriptionRef.make(0))
    const state = Effect.runSync(SubscriptionRef.make<State>("open"))
    const isClosed = () => killed || SubscriptionRef.getUnsafe(state) !== "open"
    let killed = false

    const deliver = (incoming: Raw, taken: () => void): Delivery => ({
      incoming,
      queue: "in",
      redelivered: false,
      isLost: () => killed,
      crowds: () => 2 * open.size >= window,
      ack: () => {
        if (killed) return
        open.delete(incoming)
        taken()
      }
    })

    const intake = Effect.gen(function* () {
      const deliveries = yield* Queue.unbounded<Delivery>()
      const wanted = yield* SubscriptionRef.make<Wanted>("holding")
      const take = () => {
        const free = killed || SubscriptionRef.getUnsafe(wanted) !== "taking" ? 0 : window - open.size
        for (const incoming of waiting.splice(0, free)) {
          open.add(incoming)
          Queue.offerUnsafe(deliveries, deliver(incoming, take))
        }
      }
      arrived = take
      return {
        deliveries: Stream.fromQueue(deliveries),
        wanted,
        // Nothing was taken yet where a bridge wants to return it.
        want: (now: Wanted) => Effect.andThen(SubscriptionRef.set(wanted, now), Effect.sync(take)),
        consuming: yield* SubscriptionRef.make(true),
        losses: yield* SubscriptionRef.make(0)
      }
    })

    const outlet = Effect.map(SubscriptionRef.make<string | undefined>(undefined), (closed) => ({
      closed,
      publish: Effect.fnUntraced(function* ({ messageId = "" }: Outgoing, wanted: () => boolean) {
        if (!wanted()) return yield* new NotConfirmed({ reason: "nobody wants it" })
        yield* Effect.sleep(way)
        if (!killed) answers.push(messageId)
        yield* Effect.sleep(way)
      })
    }))

    const lend = (one: Resting): ParkedDelivery => {
      const channel = SubscriptionRef.getUnsafe(losses)
      const isLost = () => killed || SubscriptionRef.getUnsafe(losses) !== channel
      let over = false
      const end = (act: () => void) => () => {
        if (over) return false
        over = true
        if (!isLost()) joined.delete(one)
        act()
        return true
      }
      joined.add(one)
      return {
        ...one,
        queue: "in.parked",
        redelivered: true,
        isLost,
        crowds: () => true,
        ack: end(() => {
          finished.add(one.ticket)
          if (!isLost()) resting.delete(one)
        }),
        putBack: end(() => {})
      }
    }

    const parking = Parked.of({
      state,
      losses,
      want: () => Effect.void,
      held: Effect.sync(() => resting.size - joined.size),
      ticket: Effect.sync(() => ++ticket),
      park: Effect.fnUntraced(function* (delivery, note) {
        if (isParked(delivery)) return void delivery.putBack()
        if (isClosed()) return yield* new NotParked({ reason: "its channel is closed" })
        yield* Effect.sleep(way)
        if (killed) return
        parked.push(idOf(delivery.incoming))
        resting.add({ ...note, incoming: delivery.incoming })
        yield* Effect.sleep(way)
      }),
      walk: Effect.fnUntraced(function* (visit, wanted = () => true) {
        const walked = { joined: 0, kept: 0, dropped: 0, whole: true }
        const shown = new Set<number>()
        const before = [...resting]
        for (const one of before) {
          if (walked.kept % 20 === 0) yield* Effect.sleep(way)
          if (isClosed()) return yield* new WalkCut({ reason: "its channel is closed" })
          if (joined.has(one)) continue
          if (!wanted() || joined.size >= window) return { ...walked, whole: false }
          const isSecond = shown.has(one.ticket) || [...joined].some((other) => other.ticket === one.ticket)
          shown.add(one.ticket)
          // The order is that of a queue: what is kept is published again.
          resting.delete(one)
          if (isSecond || finished.has(one.ticket)) {
            walked.dropped++
            continue
          }
          resting.add(one)
          if (visit(lend(one)) === "join") walked.joined++
          else {
            joined.delete(one)
            walked.kept++
          }
        }
        return walked
      })
    })

    return {
      layer: Layer.mergeAll(
        Layer.unwrap(Effect.map(intake, (service) => Layer.mock(Intake, service))),
        Layer.unwrap(Effect.map(outlet, (service) => Layer.mock(Outlet, service))),
        Layer.succeed(Parked, parking)
      ),
      /** The channel of those that have joined is lost, and they rest again; soon there is another one. */
      loseParked: Effect.gen(function* () {
        joined.clear()
        yield* SubscriptionRef.set(state, "opening")
        yield* SubscriptionRef.update(losses, (count) => count + 1)
        yield* Effect.forkDetach(Effect.andThen(Effect.sleep(50), SubscriptionRef.set(state, "open")), {
          startImmediately: true
        })
      }),
      /** The bridge's connection ends, and all that it has taken comes back: these. */
      kill: () => {
        killed = true
        arrived = () => {}
        waiting.unshift(...open)
        return [...open, ...Array.from(joined, ({ incoming }) => incoming)].map(idOf)
      }
    }
  }

  return { publish, session, answers, parked, isEmpty: () => waiting.length + resting.size === 0 }
}
