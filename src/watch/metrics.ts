import { Effect, Metric, SubscriptionRef } from "effect"
import { PrometheusMetrics } from "effect/observability"
import packaged from "../../package.json" with { type: "json" }
import { Dispatch } from "../bridge/dispatch.ts"
import type { WaitReason } from "../bridge/turn.ts"
import { Journal } from "../journal/journal.ts"
import type { JournalState } from "../journal/known.ts"
import { counted, labelled, recorder } from "../metrics.ts"
import { backlog } from "../queue/backlog.ts"
import { Connection } from "../queue/connection.ts"
import { Intake } from "../queue/intake.ts"
import { Outlet } from "../queue/outlet.ts"
import { Parked } from "../queue/parked.ts"
import { Settings } from "../settings.ts"

// What is looked at when it is asked for. What is counted while the bridge works is in metrics.ts.

const gauge = (name: string, description: string) => (attributes?: Readonly<Record<string, string>>) =>
  Metric.gauge(name, { description, attributes })

const linkUp = gauge("b24rmq_link_up", "1 while there is a connection to the broker.")()
const blocked = gauge("b24rmq_broker_blocked", "1 while the broker takes no messages (memory or disk alarm).")()
const consuming = gauge("b24rmq_consuming", "1 while requests are taken from all the queues.")()
const answersOpen = gauge("b24rmq_answers_open", "1 while answers can be put into their queue.")()
const portalUp = gauge("b24rmq_portal_up", "0 while the portal answers neither calls nor probes.")()
const inFlight = gauge("b24rmq_portal_requests_in_flight", "Calls to the portal that are under way.")()
const parked = gauge("b24rmq_parked_requests", "Requests that rest in the queue of parked ones.")()

const waits = gauge("b24rmq_waiting_requests", "Requests in memory that wait for their call, by the reason.")
const waiting: Readonly<Record<WaitReason, Metric.Gauge<number>>> = {
  "portal unavailable": waits({ reason: "portal_unavailable" }),
  rate: waits({ reason: "rate" }),
  "operating time": waits({ reason: "operating_time" }),
  concurrency: waits({ reason: "concurrency" }),
  journal: waits({ reason: "journal" }),
  order: waits({ reason: "order" }),
  broker: waits({ reason: "broker" }),
  repetition: waits({ reason: "repetition" }),
  company: waits({ reason: "company" }),
  pause: waits({ reason: "pause" })
}

const states = ["opening", "ready", "standby", "failed"] as const satisfies ReadonlyArray<JournalState["_tag"]>
const journalState = labelled(
  "state",
  states,
  gauge("b24rmq_journal_state", "1 for the state that the journal is in. Writes go on while it is ready.")
)

const messages = gauge(
  "b24rmq_queue_messages",
  "Messages that lie ready in a queue; those that were taken and not yet answered are not counted. Absent where the broker does not say."
)

const info = gauge(
  "b24rmq_build_info",
  "Always 1; the labels say what runs."
)({
  version: packaged.version,
  bun: process.versions.bun
})
// These have their names from the Prometheus client libraries.
const startTime = gauge("process_start_time_seconds", "When the process was started, in seconds since 1970.")()
const memory = gauge("process_resident_memory_bytes", "Memory that the process has in use.")()
const cpu = Metric.counter("process_cpu_seconds_total", {
  description: "CPU time that the process has used.",
  incremental: true
})

const look = Effect.gen(function* () {
  const { ampqIn } = yield* Settings
  const connection = yield* Connection
  const dispatch = yield* Dispatch
  const context = yield* Effect.context<never>()
  const record = yield* recorder
  const state = SubscriptionRef.getUnsafe((yield* Journal).state)._tag
  const seen = yield* dispatch.seen
  // What has not happened yet is 0, and not absent: else Prometheus would not see it rise.
  for (const metric of counted) metric.valueUnsafe(context)
  record(linkUp, Number(SubscriptionRef.getUnsafe(connection.link) !== undefined))
  record(blocked, Number(SubscriptionRef.getUnsafe(connection.blocked) !== undefined))
  record(consuming, Number(SubscriptionRef.getUnsafe((yield* Intake).consuming)))
  record(answersOpen, Number(SubscriptionRef.getUnsafe((yield* Outlet).closed) === undefined))
  record(portalUp, Number(SubscriptionRef.getUnsafe(dispatch.health) === "well"))
  record(inFlight, seen.calls)
  record(parked, yield* (yield* Parked).held)
  for (const [reason, series] of Object.entries(waiting))
    record(series, seen.waiting.get(reason as WaitReason)?.count ?? 0)
  for (const one of states) record(journalState[one], Number(one === state))
  for (const { queue, messages: ready } of yield* backlog) {
    const series = messages({ queue, role: ampqIn.includes(queue) ? "requests" : "answers" })
    if (ready === undefined) Metric.removeUnsafe(series, context)
    else record(series, ready)
  }
  const { user, system } = process.cpuUsage()
  record(info, 1)
  record(startTime, performance.timeOrigin / 1_000)
  record(memory, process.memoryUsage.rss())
  record(cpu, (user + system) / 1e6 - cpu.valueUnsafe(context).count)
})

/** What Prometheus is told: the metrics of the bridge in its text format, version 0.0.4. */
export const prometheus = Effect.andThen(look, PrometheusMetrics.format())
