import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { run } from "../rig/child.ts"
import { type Asked, checkAnswers, collector, declareQueues, publishAll, requests } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import { samplesOf, seriesOf, sumOf, withBridge } from "./exposition.ts"

/** 100000 is the full form. */
const count = Number(process.env["B24RMQ_METRICS_REQUESTS"] ?? 5_000)

const word = () => crypto.randomUUID().replaceAll("-", "")

/** Whatever a producer may choose is chosen at random; some are wrong on purpose. */
const anything = (index: number): Asked => {
  if (index % 100 === 0) return { headers: { method: undefined } }
  if (index % 4 > 0) return { method: "crm.deal.list", params: { filter: { TITLE: word() } } }
  const webhook = index % 20 === 4 ? { user: `${index}`, token: `secret${word()}` } : {}
  return { method: `own.${word()}`, headers: { order: word() }, ...webhook }
}

live(
  "what is told after real work is true, promtool takes it, and no series is new",
  () =>
    Effect.gen(function* () {
      const { url } = yield* vhost
      const portal = yield* openPortal({ keep: 1_000 })
      yield* declareQueues(url, { in: "bitrix24in", out: "bitrix24out" })
      const answers = yield* collector(url, "bitrix24out")
      const env = { AMPQURL: url, B24REST: portal.url, B24RMQ_PORTAL_LIMIT: "1" }
      yield* withBridge(env, (scrape) =>
        Effect.gen(function* () {
          const told = Effect.map(scrape, samplesOf)
          const before = yield* until(
            "it consumes",
            Effect.map(told, (samples) => sumOf(samples, "b24rmq_consuming") === 1 && samples)
          )
          const lost = word()
          portal.credential("1/revoked", "revoked")
          portal.fault({ kind: "reset", executed: true, when: { containing: lost, next: 1 } })
          const sent = [
            ...requests(count, anything),
            ...requests(1, () => ({ method: "profile", token: "revoked" })),
            ...requests(1, () => ({ method: "crm.deal.add", params: { fields: { TITLE: lost, ORIGIN_ID: lost } } }))
          ]
          yield* publishAll(url, "bitrix24in", sent)
          const got = yield* answers.has(sent.length, "5 minutes")
          // Once more what was answered: a write, for reads are not remembered.
          yield* publishAll(url, "bitrix24in", sent.slice(-1))
          yield* until(
            "it is answered again",
            Effect.sync(() => answers.received() > sent.length)
          )
          const text = yield* until(
            "all of it is counted",
            Effect.map(scrape, (text) => sumOf(samplesOf(text), "b24rmq_answers_total") === sent.length + 1 && text)
          )
          const after = samplesOf(text)
          const all = [...got.values()].flat()
          const outcomes = checkAnswers(sent, got).byOutcome
          for (const outcome of ["done", "refused", "rejected", "unknown"])
            expect([outcome, sumOf(after, "b24rmq_answers_total", { outcome })]).toEqual([
              outcome,
              outcomes[outcome] ?? 0
            ])
          expect(sumOf(after, "b24rmq_requests_taken_total")).toBe(sent.length + 1)
          expect(sumOf(after, "b24rmq_replays_total")).toBe(1)
          expect(sumOf(after, "b24rmq_refusals_total", { kind: "credential" })).toBe(1)
          expect(sumOf(after, "b24rmq_doubts_total")).toBe(1)
          expect(sumOf(after, "b24rmq_doubts_ended_total", { end: "found" })).toBe(1)
          expect(sumOf(after, "b24rmq_portal_requests_total")).toBe(portal.requests)
          const packed = all.filter(({ headers }) => headers["x-b24rmq-packed"] === true).length
          expect(packed).toBeGreaterThan(0)
          expect(sumOf(after, "b24rmq_batch_commands_total")).toBe(packed)
          // Each that was sent has waited once, and so has the question for what was lost.
          const wentOut = sent.length - count / 100
          expect(sumOf(after, "b24rmq_wait_duration_seconds_count")).toBe(wentOut + 1)
          expect(sumOf(after, "b24rmq_journal_commit_duration_seconds_count")).toBeGreaterThan(0)
          expect(sumOf(after, "b24rmq_link_connects_total")).toBe(1)
          for (const name of ["waiting_requests", "portal_requests_in_flight", "queue_messages", "broker_blocked"])
            expect([name, sumOf(after, `b24rmq_${name}`)]).toEqual([name, 0])
          for (const name of ["link_up", "consuming", "answers_open", "portal_up", "build_info"])
            expect([name, sumOf(after, `b24rmq_${name}`)]).toEqual([name, 1])
          expect(sumOf(after, "b24rmq_journal_state", { state: "ready" })).toBe(1)
          expect(Math.abs(sumOf(after, "process_start_time_seconds") * 1_000 - performance.timeOrigin)).toBeLessThan(1)
          expect(seriesOf(after)).toEqual(seriesOf(before))
          const checked = yield* run({
            command: "promtool",
            args: ["check", "metrics"],
            env: {},
            cwd: "/",
            input: text
          })
          expect([checked.code, checked.out, checked.err]).toEqual([0, "", ""])
        })
      )
    }),
  60_000 + count * 5
)
