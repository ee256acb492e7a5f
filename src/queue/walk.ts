import type { ConfirmChannel, ConsumeMessage, Options } from "amqplib"
import { Latch, Result } from "effect"
import { type NotTaken, publisher } from "./confirm.ts"
import type { Delivery } from "./held.ts"
import { copyOf, type Raw, rawOf } from "./raw.ts"

/** What is written on a request when it is parked. Times are milliseconds of the wall clock. */
export interface Note {
  /** Tells the request from all others and keeps its place among those of its line: a later one has a higher ticket. */
  readonly ticket: number
  /** When it was first parked. */
  readonly since: number
  /** When it is too old to be executed, if it ever is. */
  readonly deadline: number | undefined
}

/**
 * A parked request on loan. It is acknowledged or put back in the end, even when its channel is lost and nothing happens
 * on the broker any more.
 */
export interface ParkedDelivery extends Delivery, Note {
  /** Gives it back unanswered: it rests until the next walk. False if it was acknowledged before. */
  readonly putBack: () => boolean
}

/** Taken over by the visitor, who acknowledges it or puts it back, or left to rest. */
export type Verdict = "join" | "keep"

/** One walk under way. */
export interface Walk {
  readonly id: number
  readonly visit: (delivery: ParkedDelivery) => Verdict
  readonly wanted: () => boolean
  /** Tickets of which it has published a copy. */
  readonly kept: Set<number>
  joined: number
  dropped: number
  /** The queue took no marker, for it is full. */
  unmarked: boolean
  trouble: string | undefined
}

/** What is known beyond all channels. */
export interface Memory {
  readonly queue: string
  readonly wall: () => number
  readonly monotonic: () => number
  /** The highest ticket that was given or met. */
  ticket: number
  /** The walk under way, or 0: what is published meanwhile bears it, so that the walk knows what it need not visit. */
  walk: number
  /** Messages in the queue that are not in the window. */
  held: number
  /** Being parked now: not until the outcome is known can one of its copies be too many. */
  readonly arriving: Set<number>
  /** Answered; the broker may bring them again all the same, for acknowledgements are not durable. */
  readonly finished: Set<number>
  /** Parked without a confirm: if there is a copy it is one too many, for the original was not acknowledged. */
  readonly strays: Set<number>
}

/** Higher tickets are not ours, and could not rise any more: the clock's microseconds come to this in 2112. */
const highest = 2 ** 52

/** Rises, whatever the wall clock does. */
export const nextTicket = (memory: Memory) => (memory.ticket = Math.max(memory.ticket + 1, memory.wall() * 1_000))

/** Tickets that are remembered of each kind. A broker brings again what was acknowledged in its last seconds. */
const remembered = 100_000

export const remember = <A>(set: Set<A>, ticket: A) => {
  set.add(ticket)
  for (const oldest of set) {
    if (set.size <= remembered) break
    set.delete(oldest)
  }
}

/** Stands for no walk. As large as a ticket, for a small number takes less on the wire, and no copy should be longer than the one before. */
const noWalk = 2 ** 40

/** Headers of our own on a request. What is undefined is left out, and not copied either. */
export const ours = ({ ticket, since, deadline }: Note, walk: number) => ({
  "x-b24rmq-ticket": ticket,
  "x-b24rmq-parked-since": since,
  "x-b24rmq-deadline": deadline,
  "x-b24rmq-walk": walk === 0 ? noWalk : walk,
  "x-b24rmq-marker": undefined
})

const ourNames = new Set(Object.keys(ours({ ticket: 0, since: 0, deadline: 0 }, 0)))

const withoutOurs = (raw: Raw): Raw => ({
  ...raw,
  headers: Object.fromEntries(Object.entries(raw.headers).filter(([name]) => !ourNames.has(name)))
})

/** A message of the queue, and what is written on it. */
interface Found extends Note {
  readonly message: ConsumeMessage
  /** The walk that published it, and whether it is no request but marks where that walk ends. */
  readonly walk: number
  readonly isMarker: boolean
  /** When it came here, by the monotonic clock, and with which of our consumers. */
  readonly came: number
  readonly consumer: number
}

const numberIn = ({ properties }: ConsumeMessage, name: string): number | undefined => {
  const value: unknown = properties.headers?.[name]
  return typeof value === "number" && Number.isInteger(value) && value > 0 && value < highest ? value : undefined
}

/** What is written on a message. One that somebody else has put there gets a ticket now. */
const find = (message: ConsumeMessage, memory: Memory, consumer: number): Found => {
  const ticket = numberIn(message, "x-b24rmq-ticket") ?? nextTicket(memory)
  memory.ticket = Math.max(memory.ticket, ticket)
  return {
    message,
    ticket,
    since: numberIn(message, "x-b24rmq-parked-since") ?? memory.wall(),
    deadline: numberIn(message, "x-b24rmq-deadline"),
    walk: numberIn(message, "x-b24rmq-walk") ?? 0,
    isMarker: message.properties.headers?.["x-b24rmq-marker"] === true,
    came: memory.monotonic(),
    consumer
  }
}

/**
 * Quorum queues of RabbitMQ 4 drop a message that came back more than 20 times (rabbitmq.com/docs/quorum-queues,
 * delivery-limit). One that has come back half as often is published anew, which starts the count again.
 */
const worn = 10

/** RabbitMQ closes a channel whose delivery is open for 30 minutes; what waits here for so long is published anew. */
const stale = 10 * 60_000

/** Reads the queue on one channel: what it brought, what of it is on loan, what is on its way back. */
export type Reading = ReturnType<typeof reading>

export const reading = (channel: ConfirmChannel, isKnownLost: () => boolean, memory: Memory) => {
  /** Delivered and not decided upon, in their order. */
  const waiting: Array<Found> = []
  /** Not to be shown before the next walk: put back, or kept though nothing can hold their copy. */
  const resting: Array<Found> = []
  /** Tickets on loan, with the consumer that brought them. */
  const joined = new Map<number, number>()
  /** By ticket, what is acknowledged when its copy is confirmed. */
  const copies = new Map<number, Array<Found>>()
  /** Opened whenever something came, or was confirmed. */
  const news = Latch.makeUnsafe(false)
  let renewed = 0
  let consumers = 0
  /** Told by the confirms that will not come: they go first when a channel is closed, and wake who would use it. */
  let closed = false
  const send = publisher(channel)

  const isLost = () => closed || isKnownLost()

  const ack = ({ message }: Found) => {
    // The library throws where it closes a channel by itself, before it says so.
    if (!isLost()) Result.try(() => channel.ack(message))
  }

  /** Tells `done` what is wrong, or undefined once the broker has taken charge. Throws what cannot be sent. */
  const publish = (body: Uint8Array, options: Options.Publish, done: (fault: NotTaken | undefined) => void) =>
    send(memory.queue, body, options, (fault) => {
      if (fault?.kind === "lost") closed = true
      done(fault)
      news.openUnsafe()
    })

  /** Moves a message to the tail. `refused` is told if that was in vain; then it waits here as before. */
  const keep = (found: Found, refused: (reason: string) => void) => {
    const same = copies.get(found.ticket)
    // Two of one ticket need but one copy.
    if (same !== undefined) return void same.push(found)
    const originals = [found]
    const { content, properties } = found.message
    const sent = Result.try(() =>
      publish(content, copyOf(properties, ours(found, memory.walk)), (fault) => {
        copies.delete(found.ticket)
        if (fault === undefined) return originals.forEach(ack)
        waiting.unshift(...originals)
        refused(fault.reason)
      })
    )
    if (Result.isSuccess(sent)) copies.set(found.ticket, originals)
    else resting.push(found)
  }

  const renew = (found: Found) => {
    renewed++
    keep(found, () => undefined)
  }

  const deliver = (message: ConsumeMessage) => {
    const found = find(message, memory, consumers)
    if ((numberIn(message, "x-delivery-count") ?? 0) < worn) waiting.push(found)
    else renew(found)
    news.openUnsafe()
  }

  const lend = (found: Found): ParkedDelivery => {
    const { message, ticket, since, deadline } = found
    let over = false
    const end = (act: () => void) => () => {
      if (over) return false
      over = true
      joined.delete(ticket)
      act()
      return true
    }
    return {
      incoming: withoutOurs(rawOf(message)),
      // Published to the default exchange, it carries the queue's name for a routing key.
      queue: message.fields.routingKey,
      // A copy says nothing of the message that it is a copy of.
      redelivered: true,
      ticket,
      since,
      deadline,
      isLost,
      crowds: () => true,
      ack: end(() => {
        // Even if it is lost: it was answered, and comes again.
        remember(memory.finished, ticket)
        ack(found)
      }),
      putBack: end(() => {
        memory.held++
        resting.push(found)
      })
    }
  }

  const drop = (found: Found, walk: Walk) => {
    memory.held--
    walk.dropped++
    // Not before its copy is safe, if one is on its way.
    const same = copies.get(found.ticket)
    if (same === undefined) ack(found)
    else same.push(found)
  }

  const leave = (found: Found, walk: Walk) => {
    walk.kept.add(found.ticket)
    keep(found, (reason) => {
      walk.kept.delete(found.ticket)
      walk.trouble = reason
    })
  }

  const decide = (found: Found, walk: Walk) => {
    const { ticket } = found
    const loan = joined.get(ticket)
    // After the broker cancelled a consumer this may be the loan's own message, which is ours no more.
    if (memory.arriving.has(ticket) || (loan !== undefined && loan !== found.consumer)) return leave(found, walk)
    const isKnown = loan !== undefined || memory.finished.has(ticket) || memory.strays.has(ticket)
    if (isKnown || walk.kept.has(ticket)) return drop(found, walk)
    joined.set(ticket, found.consumer)
    memory.held--
    if (walk.visit(lend(found)) === "join") return void walk.joined++
    memory.held++
    joined.delete(ticket)
    leave(found, walk)
  }

  /** Decides upon what has come. Says whether the walk is over, or undefined while it goes on. */
  const advance = (walk: Walk, window: number): "whole" | "part" | undefined => {
    for (let found = waiting[0]; found !== undefined; found = waiting[0]) {
      if (!walk.wanted()) return "part"
      const isOwn = found.walk === walk.id
      // In a queue with priorities what was kept may overtake the marker.
      if (isOwn && !found.isMarker) return "whole"
      if (!found.isMarker && joined.size >= window) return "part"
      waiting.shift()
      if (!found.isMarker) decide(found, walk)
      else {
        memory.held--
        ack(found)
        if (isOwn) return "whole"
      }
    }
    return walk.unmarked ? "part" : undefined
  }

  /** Takes up what rested, and marks the tail: all that is parked now comes before the marker. */
  const begin = (walk: Walk) => {
    waiting.unshift(...resting.splice(0).toSorted((one, other) => one.ticket - other.ticket))
    const headers = { "x-b24rmq-walk": walk.id, "x-b24rmq-marker": true }
    publish(new Uint8Array(0), { persistent: true, mandatory: true, headers }, (fault) => {
      if (fault === undefined) return
      memory.held--
      // A queue that is full takes no marker either, and must not stay full for that.
      if (fault.kind === "refused") walk.unmarked = true
      else walk.trouble = fault.reason
    })
    memory.held++
  }

  /** Publishes anew what has waited here for long. */
  const refresh = () => {
    const before = memory.monotonic() - stale
    for (const list of [waiting, resting]) {
      const old = list.filter(({ came }) => came <= before)
      list.splice(0, list.length, ...list.filter(({ came }) => came > before))
      old.forEach(renew)
    }
  }

  return {
    isLost,
    news,
    publish,
    deliver,
    begin,
    advance,
    refresh,
    /** Another consumer begins to bring messages. */
    attached: () => void consumers++,
    count: () => waiting.length + resting.length,
    isCopying: () => copies.size > 0,
    renewed: () => renewed
  }
}
