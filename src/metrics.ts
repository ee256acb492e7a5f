import { Effect, Metric } from "effect"

/**
 * What the bridge counts while it works, for Prometheus. Every series is here, with all values that its labels may have:
 * nothing that a producer writes becomes a label. What is only looked at when it is asked for is in watch/metrics.ts.
 */

type Attributes = Readonly<Record<string, string>>

const counter = (name: string, description: string) => (attributes?: Attributes) =>
  Metric.counter(name, { description, attributes, incremental: true })

const histogram = (name: string, description: string, boundaries: ReadonlyArray<number>) => (attributes?: Attributes) =>
  Metric.histogram(name, { description, attributes, boundaries })

/** A series for each value of a label. */
export const labelled = <const Value extends string, A>(
  label: string,
  values: ReadonlyArray<Value>,
  make: (attributes: Attributes) => A
): Readonly<Record<Value, A>> =>
  Object.fromEntries(values.map((value) => [value, make({ [label]: value })])) as Record<Value, A>

export const taken = counter(
  "b24rmq_requests_taken_total",
  "Requests taken from the queue, each time that the broker has delivered one."
)()

export const answers = labelled(
  "outcome",
  ["done", "refused", "unknown", "rejected"],
  counter("b24rmq_answers_total", "Answers that the broker has confirmed, by outcome.")
)

export const replays = counter(
  "b24rmq_replays_total",
  "Requests answered from the journal, for they had been answered before."
)()

const calls = ["single", "batch", "probe"] as const
const results = ["done", "refused", "limited", "unavailable", "unknown"] as const

/** HTTP requests that have ended. */
export const portalRequests = labelled("call", calls, (call) =>
  labelled("result", results, (result) =>
    counter(
      "b24rmq_portal_requests_total",
      "HTTP requests to the portal that have ended: with one request, with a batch of them, or a probe of a portal that did not answer."
    )({ ...call, ...result })
  )
)

export const portalTime = labelled(
  "call",
  ["single", "batch"],
  histogram(
    "b24rmq_portal_request_duration_seconds",
    "How long HTTP requests to the portal took, with their answers.",
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 70]
  )
)

export const packed = counter("b24rmq_batch_commands_total", "Requests sent as commands of a batch.")()

export const retries = counter(
  "b24rmq_retries_total",
  "Requests sent again: they were refused for a limit, did not reach the portal, or are reads without an answer."
)()

export const refusals = labelled(
  "kind",
  ["rate", "operating_time", "credential", "account"],
  counter(
    "b24rmq_refusals_total",
    "Refusals of the portal that are not about the request: too many requests, a method's operating time, a webhook, the whole account."
  )
)

export const waited = histogram(
  "b24rmq_wait_duration_seconds",
  "How long requests waited in memory before they were sent for the first time.",
  [0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200]
)()

export const doubts = counter(
  "b24rmq_doubts_total",
  "Writes of which nobody knew for a time whether they had been executed."
)()

export const doubtsEnded = labelled(
  "end",
  ["found", "gone", "repeated", "expired", "unknown", "returned"],
  counter(
    "b24rmq_doubts_ended_total",
    "How doubts ended: what the write creates was found, what it deletes is not there, it was sent again, it was not executed and is too old to be, nobody can know, or the request went back to the queue."
  )
)

export const parked = counter(
  "b24rmq_requests_parked_total",
  "Requests put into the queue of parked ones, each time."
)()

export const unparked = counter(
  "b24rmq_requests_unparked_total",
  "Requests fetched from the queue of parked ones, each time."
)()

export const connects = counter("b24rmq_link_connects_total", "Connections made to the broker.")()

export const commitTime = histogram(
  "b24rmq_journal_commit_duration_seconds",
  "How long the journal's transactions took to be on disk.",
  [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]
)()

/** All series of the above. */
export const counted: ReadonlyArray<Metric.Metric<number, unknown>> = [
  taken,
  ...Object.values(answers),
  replays,
  ...Object.values(portalRequests).flatMap((byResult) => Object.values(byResult)),
  ...Object.values(portalTime),
  packed,
  retries,
  ...Object.values(refusals),
  waited,
  doubts,
  ...Object.values(doubtsEnded),
  parked,
  unparked,
  connects,
  commitTime
]

/**
 * How metrics are updated: by plain code, for some are with every message, and an effect costs ten times as much. Counters
 * take what is added, histograms seconds, gauges the value.
 */
export const recorder = Effect.map(
  Effect.context<never>(),
  (context) => (metric: Metric.Metric<number, unknown>, value: number) => metric.updateUnsafe(value, context)
)
