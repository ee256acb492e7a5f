import { Effect, type LogLevel } from "effect"

/** Every event that the log knows: its level and what it says to a person. The names are stable. */
export const events = {
  starting: ["Info", "The bridge starts"],
  "link-up": ["Info", "Connected to the broker"],
  "link-failed": ["Warn", "The broker cannot be reached; trying again"],
  "link-lost": ["Warn", "The connection to the broker is lost; connecting again"],
  "broker-blocked": [
    "Warn",
    "The broker does not take messages (memory or disk alarm): no new calls until it does; free memory or disk there"
  ],
  "broker-unblocked": ["Info", "The broker takes messages again"],
  "queue-declared": ["Info", "A missing queue was declared"],
  "queue-missing": ["Warn", "A queue is missing; waiting for it to be created"],
  "channel-lost": ["Warn", "A channel was closed; opening it again"],
  consuming: ["Info", "Requests are being taken from the queue"],
  "queue-shared": [
    "Warn",
    "Another consumer takes requests from this queue: nobody can keep their order, or the portal's rate; let one bridge do it"
  ],
  "consumer-cancelled": [
    "Warn",
    "The broker cancelled the consumer (was the queue deleted or moved?); subscribing again"
  ],
  "intake-paused": ["Warn", "No requests are taken while the portal is away"],
  paused: [
    "Warn",
    "Paused by the operator: calls in flight are finished, nothing else departs or is taken until resumed"
  ],
  resumed: ["Info", "Resumed by the operator"],
  "returned-unsent": [
    "Warn",
    "Requests that were held too long went back to the queue; they will be taken when the wait is over"
  ],
  "parking-off": [
    "Warn",
    "Requests that must wait long cannot be parked; they are held instead, and keep others from being taken"
  ],
  "parking-on": ["Info", "Requests that must wait long are parked again"],
  "parked-in-use": ["Warn", "Another connection reads the parked requests; waiting until it is gone"],
  "delivery-near-limit": ["Warn", "A request has been open for long: the broker may take it back (consumer_timeout)"],
  "answer-not-routed": ["Error", "The answer queue does not exist; answers are held and published again"],
  "answer-refused": ["Error", "The answer queue refuses messages (is it full?); answers are held and published again"],
  "answer-too-large": ["Warn", "An answer was too large for the broker and was replaced"],
  "portal-away": ["Error", "The portal does not answer; requests are held"],
  "portal-back": ["Info", "The portal answers again"],
  "rate-refused": ["Warn", "The portal refused a call for too many requests; pausing"],
  "method-closed": ["Warn", "The portal closed a method for its run time; its requests wait"],
  "credential-refused": [
    "Error",
    "The portal refused a webhook: create a new one, or correct user and token in the producer"
  ],
  "account-blocked": [
    "Error",
    "The portal refuses the whole account; a person has to settle it with the portal's owner or the vendor"
  ],
  "outcome-in-doubt": [
    "Warn",
    "A write was sent and no answer came; finding out whether it was executed, once the portal has surely ended it"
  ],
  "outcome-found": ["Info", "It is known now what became of a write that was in doubt"],
  "outcome-unknown": ["Warn", "A call was cut off and may have been executed; answered as unknown"],
  "journal-ready": ["Info", "The journal is open and can be written"],
  "journal-standby": [
    "Warn",
    "Another bridge holds this journal: standing by until it ends (a bridge for other queues needs a journal of its own)"
  ],
  "journal-failed": ["Error", "The journal cannot be written: writes wait until it can, reads go on"],
  "journal-full": [
    "Error",
    "The journal has reached B24RMQ_JOURNAL_MAX and holds nothing that may be forgotten: writes wait; raise the setting, or let open requests be answered"
  ],
  "journal-damaged": [
    "Error",
    "The journal's file is damaged: it was set aside and a new one begun; what it knew of earlier writes is lost"
  ],
  "request-rejected": ["Warn", "A request could not be sent and was answered with the reason"],
  "request-answered": ["Debug", "A request was answered"],
  "setting-changed": ["Info", "A setting was changed until the next start"],
  "socket-open": ["Info", "Commands are taken on a socket"],
  "socket-failed": ["Warn", "No commands can be taken; the bridge works without, and tries again"],
  "http-open": ["Info", "The status page is served"],
  "http-failed": ["Warn", "The status page cannot be served; the bridge works without, and tries again"],
  doing: ["Info", "What the bridge does or waits for has changed"],
  hindered: ["Warn", "Something keeps the bridge from its work"],
  stopping: ["Info", "Stopping: nothing new is started, calls in flight are finished"],
  "drain-cut": ["Warn", "The stop did not wait for all calls; their requests go back to the queue"],
  stopped: ["Info", "Stopped"],
  broken: ["Fatal", "A defect of the bridge itself; please report it"]
} as const satisfies Record<string, readonly [LogLevel.LogLevel, string]>

export type Event = keyof typeof events

type Fields = Readonly<Record<string, string | number | boolean | undefined>>

/** Writes an event to the log. Fields never hold a secret. */
export const tell = (event: Event, fields: Fields = {}) => {
  const [level, text] = events[event]
  return Effect.logWithLevel(level)(text).pipe(Effect.annotateLogs({ event, ...fields }))
}
