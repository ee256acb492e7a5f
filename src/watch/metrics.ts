import { Effect, Metric } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { counted, recorder } from "../metrics.ts"
import { Overview } from "./overview.ts"
import type { Status } from "./status.ts"

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
const waiting: Readonly<Record<Status["waiting"][number]["reason"], Metric.Gauge<number>>> = {
  pause: waits({ reason: "pause" }),
  "portal unavailable": waits({ reason: "portal_unavailable" }),
  rate: waits({ reason: "rate" }),
  "operating time": waits({ reason: "operating_time" }),
  concurrency: waits({ reason: "concurrency" }),
  journal: waits({ reason: "journal" }),
  order: waits({ reason: "order" }),
  broker: waits({ reason: "broker" }),
  repetition: waits({ reason: "repetition" }),
  company: waits({ reason: "company" })
}

const states = gauge("b24rmq_journal_state", "1 for the state that the journal is in. Writes go on while it is ready.")
const journalState: Readonly<Record<Status["journal"]["state"], Metric.Gauge<number>>> = {
  opening: states({ state: "opening" }),
  ready: states({ state: "ready" }),
  standby: states({ state: "standby" }),
  failed: states({ state: "failed" })
}

const messages = gauge(
  "b24rmq_queue_messages",
  "Messages that lie ready in a queue; those that were taken and not yet answered are not counted. Absent where the broker does not say."
)

const paused = gauge("b24rmq_paused", "1 while an operator has the bridge paused.")()
const left = gauge("b24rmq_backlog_requests", "Requests without an answer: in the queues, parked, and in memory.")()
const until = gauge(
  "b24rmq_backlog_seconds",
  "In how many seconds the last of them is answered, estimated from the portal's budgets. Absent while nothing moves."
)()
const info = gauge("b24rmq_build_info", "Always 1; the labels say what runs.")

// These have their names from the Prometheus client libraries.
const startTime = gauge("process_start_time_seconds", "When the process was started, in seconds since 1970.")()
const memory = gauge("process_resident_memory_bytes", "Memory that the process has in use.")()
const cpu = Metric.counter("process_cpu_seconds_total", {
  description: "CPU time that the process has used.",
  incremental: true
})

const look = Effect.gen(function* () {
  const status = yield* (yield* Overview).status
  const context = yield* Effect.context<never>()
  const record = yield* recorder
  /** What is not known is not told. */
  const orAbsent = (series: Metric.Gauge<number>, value: number | null) =>
    value === null ? Metric.removeUnsafe(series, context) : record(series, value)
  const { answers, backlog, broker, intake } = status
  // What has not happened yet is 0, and not absent: else Prometheus would not see it rise.
  for (const metric of counted) metric.valueUnsafe(context)
  record(linkUp, Number(broker.up))
  record(blocked, Number(broker.blocked !== null))
  record(consuming, Number(intake.consuming))
  record(answersOpen, Number(answers.closed === null))
  record(portalUp, Number(status.portal.health !== "away"))
  record(paused, Number(status.paused !== null))
  record(inFlight, status.inFlight.calls)
  record(parked, status.parked.count)
  for (const [state, series] of Object.entries(journalState)) record(series, Number(state === status.journal.state))
  for (const series of Object.values(waiting)) record(series, 0)
  for (const { reason, count } of status.waiting) record(waiting[reason], count)
  for (const { queue, ready } of intake.queues) orAbsent(messages({ queue, role: "requests" }), ready)
  orAbsent(messages({ queue: answers.queue, role: "answers" }), answers.ready)
  orAbsent(left, backlog.known ? backlog.left : null)
  orAbsent(until, backlog.seconds)
  const { user, system } = process.cpuUsage()
  record(info({ version: status.version, bun: process.versions.bun }), 1)
  record(startTime, performance.timeOrigin / 1_000)
  record(memory, process.memoryUsage.rss())
  record(cpu, (user + system) / 1e6 - cpu.valueUnsafe(context).count)
})

/** What Prometheus is told: the metrics of the bridge in its text format, version 0.0.4. */
export const prometheus = Effect.andThen(look, PrometheusMetrics.format())

/** Where Prometheus asks. */
export const metrics = HttpRouter.use((router) =>
  Effect.gen(function* () {
    const overview = yield* Overview
    const contentType = "text/plain; version=0.0.4; charset=utf-8"
    const scrape = Effect.map(prometheus, (text) => HttpServerResponse.text(text, { contentType }))
    yield* router.add("GET", "/metrics", Effect.provideService(scrape, Overview, overview))
  })
)
