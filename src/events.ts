import { Clock, Context, Effect, Layer, type LogLevel, Schedule } from "effect"

/** How an event that may come again and again is counted. */
interface Repeating {
  /** The fields that tell its kinds apart. */
  readonly by: ReadonlyArray<string>
  /** How many of a kind are told at once; one otherwise. */
  readonly first?: number
}

type Row = readonly [
  level: LogLevel.LogLevel,
  text: string,
  fields: ReadonlyArray<string>,
  /** Undefined for what cannot flood: each one is told. */
  repeating?: Repeating
]

/** Every event that the log knows: its level, what it says to a person, its fields. The names are stable. */
export const events = {
  starting: ["Info", "The bridge starts", ["version"]],
  "link-up": ["Info", "Connected to the broker", []],
  "link-failed": ["Warn", "The broker cannot be reached; trying again", ["reason"], { by: ["reason"] }],
  "link-lost": ["Warn", "The connection to the broker is lost; connecting again", ["reason"]],
  "broker-blocked": [
    "Warn",
    "The broker does not take messages (memory or disk alarm): no new calls until it does; free memory or disk there",
    ["reason"]
  ],
  "broker-unblocked": ["Info", "The broker takes messages again", []],
  "queue-declared": ["Info", "A missing queue was declared", ["queue"]],
  "queue-missing": ["Warn", "A queue is missing; waiting for it to be created", ["queue", "reason"]],
  "channel-lost": ["Warn", "A channel was closed; opening it again", ["queue", "reason"]],
  consuming: ["Info", "Requests are being taken from the queue", ["queue", "prefetch"]],
  "queue-shared": [
    "Warn",
    "Another consumer takes requests from this queue: nobody can keep their order, or the portal's rate; let one bridge do it",
    ["queue"]
  ],
  "consumer-cancelled": [
    "Warn",
    "The broker cancelled the consumer (was the queue deleted or moved?); subscribing again",
    ["queue", "reason"]
  ],
  "intake-paused": ["Warn", "No requests are taken while the portal is away", []],
  paused: [
    "Warn",
    "Paused by the operator: calls in flight are finished, nothing else departs or is taken until resumed",
    []
  ],
  resumed: ["Info", "Resumed by the operator", []],
  "returned-unsent": [
    "Warn",
    "Requests that were held too long went back to the queue; they will be taken when the wait is over",
    []
  ],
  "parking-off": [
    "Warn",
    "Requests that must wait long cannot be parked; they are held instead, and keep others from being taken",
    ["queue", "reason"]
  ],
  "parking-on": ["Info", "Requests that must wait long are parked again", ["queue"]],
  "parked-in-use": [
    "Warn",
    "Another connection reads the parked requests; waiting until it is gone",
    ["queue", "reason"]
  ],
  "delivery-near-limit": [
    "Warn",
    "A request has been open for long: the broker may take it back (consumer_timeout)",
    ["minutes"]
  ],
  "answer-not-routed": [
    "Error",
    "The answer queue does not exist; answers are held and published again",
    ["queue", "reason"]
  ],
  "answer-refused": [
    "Error",
    "The answer queue refuses messages (is it full?); answers are held and published again",
    ["queue"]
  ],
  "answer-too-large": [
    "Warn",
    "An answer was too large for the broker and was replaced",
    ["message_id", "bytes"],
    { by: [] }
  ],
  "portal-away": ["Error", "The portal does not answer; requests are held", ["reason"]],
  "portal-back": ["Info", "The portal answers again", ["seconds"]],
  "rate-refused": ["Warn", "The portal refused a call for too many requests; pausing", ["pause_ms"], { by: [] }],
  "method-closed": [
    "Warn",
    "The portal closed a method for its run time; its requests wait",
    ["about", "reason"],
    { by: ["about"] }
  ],
  "credential-refused": [
    "Error",
    "The portal refused a webhook: create a new one, or correct user and token in the producer",
    ["about", "reason"],
    { by: ["about", "reason"] }
  ],
  "account-blocked": [
    "Error",
    "The portal refuses the whole account; a person has to settle it with the portal's owner or the vendor",
    ["reason"],
    { by: ["reason"] }
  ],
  "outcome-in-doubt": [
    "Warn",
    "A write was sent and no answer came; finding out whether it was executed, once the portal has surely ended it",
    ["message_id", "method", "user"],
    { by: ["method"], first: 10 }
  ],
  "outcome-found": [
    "Info",
    "It is known now what became of a write that was in doubt",
    ["message_id", "method", "user"],
    { by: ["method"], first: 10 }
  ],
  "outcome-unknown": [
    "Warn",
    "A call was cut off and may have been executed; answered as unknown",
    ["message_id", "method", "user"],
    { by: ["method"], first: 10 }
  ],
  "journal-ready": ["Info", "The journal is open and can be written", []],
  "journal-standby": [
    "Warn",
    "Another bridge holds this journal: standing by until it ends (a bridge for other queues needs a journal of its own)",
    []
  ],
  "journal-failed": [
    "Error",
    "The journal cannot be written: writes wait until it can, reads go on",
    ["reason"],
    { by: ["reason"] }
  ],
  "journal-full": [
    "Error",
    "The journal has reached B24RMQ_JOURNAL_MAX and holds nothing that may be forgotten: writes wait; raise the setting, or let open requests be answered",
    []
  ],
  "journal-damaged": [
    "Error",
    "The journal's file is damaged: it was set aside and a new one begun; what it knew of earlier writes is lost",
    ["file"]
  ],
  stalled: [
    "Warn",
    "Work should move and does not, without a reason to wait; restarting a part of the bridge",
    ["part", "reason", "seconds", "remedy"]
  ],
  "stall-over": ["Info", "What had stalled moves again", ["part", "seconds"]],
  "stall-stays": [
    "Error",
    "What has stalled does not move after all restarts: systemd gets no more signs of life, and starts the service again where WatchdogSec= is set; otherwise do it by hand",
    ["part", "reason", "seconds"]
  ],
  "answers-unconfirmed": [
    "Error",
    "The broker takes answers and does not confirm them, though it confirms others: see whether the answer queue has lost its leader or majority",
    ["queue"]
  ],
  "request-rejected": [
    "Warn",
    "A request could not be sent and was answered with the reason",
    ["message_id", "code"],
    { by: ["code"] }
  ],
  "rejected-not-kept": [
    "Error",
    "A request that was rejected or refused could not be kept in the queue of B24RMQ_REJECTED; it was answered all the same",
    ["queue", "reason", "message_id", "code"],
    { by: ["code"] }
  ],
  "replay-started": [
    "Info",
    "Requests that were kept are moved back into their queue",
    ["queue", "moved", "answered", "again"]
  ],
  "replay-stopped": [
    "Warn",
    "The replay of kept requests has stopped; remove the cause, then B24RMQ rejected replay --resume",
    ["reason", "moved", "answered", "again"]
  ],
  "replay-finished": ["Info", "The replay of kept requests is finished", ["moved", "answered", "again"]],
  "request-answered": [
    "Debug",
    "A request was answered",
    ["message_id", "method", "user", "outcome", "status", "attempts"]
  ],
  "setting-changed": ["Info", "A setting was changed until the next start", ["name", "value"]],
  "socket-open": ["Info", "Commands are taken on a socket", ["socket"]],
  "socket-failed": [
    "Warn",
    "No commands can be taken; the bridge works without, and tries again",
    ["socket", "reason"]
  ],
  "http-open": ["Info", "The status page is served", ["address"]],
  "http-failed": [
    "Warn",
    "The status page cannot be served; the bridge works without, and tries again",
    ["address", "reason"]
  ],
  doing: ["Info", "What the bridge does or waits for has changed", ["why", "says"]],
  hindered: ["Warn", "Something keeps the bridge from its work", ["why", "says"]],
  stopping: ["Info", "Stopping: nothing new is started, calls in flight are finished", []],
  "drain-cut": ["Warn", "The stop did not wait for all calls; their requests go back to the queue", []],
  stopped: ["Info", "Stopped", []],
  broken: ["Fatal", "A defect of the bridge itself; please report it", ["message_id", "cause"], { by: ["cause"] }]
} as const satisfies Record<string, Row>

export type Event = keyof typeof events

type Value = string | number | boolean | undefined

/** The fields that an event may have. */
type FieldsOf<E extends Event> = Readonly<Partial<Record<(typeof events)[E][2][number], Value>>>

type Fields = Readonly<Record<string, Value>>

/** Writes an event to the log, unless it is to be counted with others of its kind. Fields never hold a secret. */
export const tell = <E extends Event>(event: E, given?: FieldsOf<E>): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const fields: Fields = given ?? {}
    const repeats = fiber.getRef(Repeats)
    // Whoever asks for everything gets everything.
    const isTold =
      repeats === undefined ||
      fiber.getRef(TellsAll)() ||
      repeats.admits(event, fields, fiber.getRef(Clock.Clock).currentTimeMillisUnsafe())
    return isTold ? write(event, fields) : Effect.void
  })

const write = (event: Event, fields: Fields, more = 0) => {
  const [level, text]: Row = events[event]
  const line = more === 0 ? text : `${text} (${more} more of this kind)`
  return Effect.logWithLevel(level)(line).pipe(
    Effect.annotateLogs({ event, ...fields, ...(more === 0 ? {} : { more }) })
  )
}

/** Events of one kind. */
interface Kind {
  readonly event: Event
  /** When the next line is due for those that were not told. */
  due: number
  told: number
  more: number
  /** Of the last that was not told. */
  fields: Fields
}

/** In milliseconds: how often a line tells of those that were not told. */
const period = 60_000

/** More kinds of one event than this are one kind together: whoever sends requests chooses methods and more. */
const mostKinds = 100

/**
 * Counts what comes again: the first of a kind is told at once, and from then on a line a minute says how many more there
 * were, until a minute has passed without one. Pure, but for being kept in place; times are milliseconds.
 */
export class Counts {
  private readonly kinds = new Map<Event, Map<string, Kind>>()

  /** Whether an event is to be told; otherwise it is counted. */
  admits(event: Event, fields: Fields, at: number): boolean {
    const [, , , repeating]: Row = events[event]
    if (repeating === undefined) return true
    const { by, first = 1 } = repeating
    let own = this.kinds.get(event)
    if (own === undefined) this.kinds.set(event, (own = new Map()))
    const name = by.map((field) => fields[field]).join(" ")
    const key = own.has(name) || own.size < mostKinds ? name : ""
    let kind = own.get(key)
    if (kind === undefined) own.set(key, (kind = { event, due: at + period, told: 0, more: 0, fields }))
    if (kind.told < first) {
      kind.told++
      return true
    }
    kind.more++
    kind.fields = fields
    return false
  }

  /** The lines that are due, each with how many it stands for. */
  due(at: number): ReadonlyArray<Pick<Kind, "event" | "fields" | "more">> {
    const lines: Array<Pick<Kind, "event" | "fields" | "more">> = []
    for (const own of this.kinds.values()) {
      for (const [key, kind] of own) {
        if (at < kind.due) continue
        const { event, fields, more } = kind
        if (more === 0) own.delete(key)
        else lines.push({ event, fields, more })
        kind.due = at + period
        kind.more = 0
      }
    }
    return lines
  }
}

/** Whether each event is told, whatever its kind: it may change while the bridge runs. */
export const TellsAll = Context.Reference<() => boolean>("b24rmq/TellsAll", { defaultValue: () => () => false })

/** What counts repeats; without it each event is told. */
const Repeats = Context.Reference<Counts | undefined>("b24rmq/Repeats", { defaultValue: () => undefined })

/** Counts the events of all that it is provided to, and writes the lines of those that were not told. */
export const layerRepeats = Layer.unwrap(
  Effect.gen(function* () {
    const counts = new Counts()
    const writeDue = (at: number) =>
      Effect.forEach(counts.due(at), ({ event, fields, more }) => write(event, fields, more), { discard: true })
    const now = Effect.flatMap(Clock.currentTimeMillis, writeDue)
    yield* now.pipe(Effect.repeat(Schedule.spaced("5 seconds")), Effect.forkScoped)
    // Nothing that was counted is lost with a stop.
    yield* Effect.addFinalizer(() => writeDue(Infinity))
    return Layer.succeed(Repeats, counts)
  })
)
