import type { Report } from "./cause.ts"
import { lengthOf } from "./length.ts"
import type { Listed, ReplayState, Shown } from "./rejected.ts"
import type { Found } from "./steering.ts"

/** Reports as a person reads them on a terminal. Pure. */

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 1 })
const number = (value: number) => numbers.format(value)

const clock = (at: number) => new Date(at).toISOString().replace("T", " ").slice(0, 19)

const left = (report: Report, until: number | null) =>
  until === null ? "" : until <= report.at ? "now" : `in ${lengthOf((until - report.at) / 1_000, "en")}`

const since = (report: Report, at: number) => lengthOf(Math.max(0, report.at - at) / 1_000, "en")

const seconds = (value: number | null) =>
  value === null ? "-" : value < 1 ? `${Math.round(value * 1_000)} ms` : `${number(value)} s`

/** Columns as wide as what stands in them; numbers to the right. */
export const table = (
  head: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string>>
): ReadonlyArray<string> => {
  const width = head.map((title, n) => Math.max(title.length, ...rows.map((row) => (row[n] ?? "").length)))
  const isNumber = head.map((_, n) => rows.every((row) => /^[-\d,.]*$/.test(row[n] ?? "")))
  return [head, ...rows].map((row) =>
    row
      .map((cell, n) => (isNumber[n] ? cell.padStart(width[n] ?? 0) : cell.padEnd(width[n] ?? 0)))
      .join("  ")
      .trimEnd()
  )
}

const section = (title: string, lines: ReadonlyArray<string>) =>
  lines.length === 0 ? [] : ["", title, ...lines.map((line) => `  ${line}`)]

const summary = (report: Report) => {
  const { answers, backlog, broker, inFlight, intake, journal, pace, parked, paused, portal, rate, settings } = report
  const queues = intake.queues.map(({ queue, ready }) => `${queue} ${ready === null ? "?" : number(ready)}`).join(", ")
  const state = broker.up
    ? `connected for ${since(report, broker.since ?? report.at)}${broker.blocked === null ? "" : ", BLOCKED"}`
    : `NOT connected for ${since(report, broker.since ?? report.at)}`
  const estimate = backlog.seconds === null ? "" : `, through in about ${lengthOf(backlog.seconds, "en")}`
  const limit =
    rate.perSecond === null
      ? "no limit known"
      : `${number(rate.perSecond)}/s, ${number(rate.level)} of ${number(rate.depth ?? 0)} used${rate.pausedUntil === null ? "" : `, paused ${left(report, rate.pausedUntil)}`}`
  return [
    ["broker", state],
    ["intake", intake.consuming ? `consuming ${settings.in.join(", ")}` : `not consuming (${intake.wanted})`],
    ["portal", `${settings.portal}: ${portal.health} for ${since(report, portal.since)}`],
    ["journal", `${journal.kind}, ${journal.state}${journal.reason === null ? "" : `: ${journal.reason}`}`],
    ...(paused === null ? [] : [["pause", `for ${since(report, paused)}`]]),
    ["backlog", `${number(backlog.left)}${backlog.known ? "" : " or more"}${estimate} (${queues})`],
    ["in flight", `${inFlight.requests} requests in ${inFlight.calls} calls, of ${inFlight.allowed} allowed`],
    ["parked", number(parked.count)],
    ["answers", `${answers.queue}: ${answers.ready === null ? "?" : number(answers.ready)} not read yet`],
    [
      "done",
      `${number(pace.minute.answers)} in the last minute, ${number(pace.hour.answers)} in the last hour; half within ${seconds(pace.minute.half)}, 95 of 100 within ${seconds(pace.minute.most)}`
    ],
    ["rate", limit],
    [
      "settings",
      `rate ${settings.rate}, concurrency ${settings.concurrency}, pack ${settings.pack}, log ${settings.logLevel}`
    ]
  ].map(([name = "", text = ""]) => `${name.padEnd(10)}${text}`)
}

/** Longest lists on a terminal. */
const some = 10

/** The status as lines. */
export const statusLines = (report: Report): ReadonlyArray<string> => {
  const { also, broker, budgets, cause, errors, refusals, waiting } = report
  return [
    `B24RMQ ${report.version}, up for ${since(report, report.since)}: ${cause.en}`,
    ...also.map(({ en }) => `Also: ${en}`),
    "",
    ...summary(report),
    ...section(
      "Waiting",
      waiting.length === 0
        ? []
        : table(
            ["for", "requests", "oldest", "next"],
            waiting.map(({ reason, count, since: at, until }) => [
              reason,
              number(count),
              since(report, at),
              left(report, until)
            ])
          )
    ),
    ...section(
      "Operating time",
      budgets.length === 0
        ? []
        : table(
            ["credential", "method", "used s", "of s", "closed", "waiting"],
            budgets
              .slice(0, some)
              .map(({ credential, method, used, allowed, closedUntil, waiting }) => [
                credential,
                method,
                number(used),
                allowed === null ? "" : number(allowed),
                closedUntil === null ? "" : `opens ${left(report, closedUntil)}`,
                number(waiting)
              ])
          )
    ),
    ...section(
      "Refused",
      refusals.length === 0
        ? []
        : table(
            ["last", "times", "code", "method", "credential", "message"],
            refusals
              .slice(-some)
              .toReversed()
              .map(({ at, times, code, method, credential, messageId }) => [
                `${since(report, at)} ago`,
                number(times),
                code || "(none)",
                method ?? "",
                credential ?? "",
                messageId ?? ""
              ])
          )
    ),
    ...section(
      "Link",
      broker.history
        .slice(-5)
        .map(
          ({ at, what, reason, times }) =>
            `${clock(at)}  ${what}${reason === null ? "" : `: ${reason}`}${times > 1 ? ` (${times} times)` : ""}`
        )
    ),
    ...section(
      "Last warnings and errors",
      errors.slice(-some).map(({ at, level, text, times }) => {
        return `${clock(at)}  ${level.padEnd(5)} ${text}${times > 1 ? ` (${times} times)` : ""}`
      })
    )
  ]
}

/** What became of a message, as lines. */
export const foundLines = ({ messageId, waiting, kept, entries }: typeof Found.Type): ReadonlyArray<string> => {
  if (waiting.length + entries.length + kept.length === 0) {
    return [
      `Nothing is known of ${messageId}. Only writes are kept, for B24RMQ_JOURNAL_KEEP after their answer was taken; what lies in the queue is not known yet.`
    ]
  }
  return [
    ...waiting.map(
      ({ method, credential, reason, since, until }) =>
        `${clock(since)}  ${method} (${credential}) has arrived and waits: ${reason}${until === null ? "" : `, until about ${clock(until)}`}`
    ),
    ...kept.map(
      ({ at, code, id, method }) =>
        `${at === null ? "                   " : clock(at)}  ${method ?? "a request"} was kept as ${id}: ${code}`
    ),
    ...entries.flatMap(({ method, credential, queue, firstSentAt, lastSentAt, departures, answer }) => {
      const what = `${method} (${credential})`
      const sent =
        firstSentAt === null || lastSentAt === null
          ? []
          : [
              `${clock(firstSentAt)}  ${what} from ${queue} left for the portal`,
              ...(departures > 1 ? [`${clock(lastSentAt)}  ${what} left again; ${departures} departures in all`] : [])
            ]
      const ended =
        answer === null
          ? [`                     ${what}: no answer is written down; it is under way or in doubt`]
          : [
              `${clock(answer.at)}  ${what}: ${answer.outcome}${answer.status === null ? "" : `, HTTP ${answer.status}`}, ${number(answer.bytes)} bytes${answer.packed ? ", in a batch" : ""}${answer.resolved === null ? "" : `, ${answer.resolved}`}; ${answer.confirmed ? "the broker has the answer" : "not confirmed by the broker yet"}`
            ]
      return [...sent, ...ended]
    })
  ]
}

/** What is kept, as lines. */
export const listedLines = ({ beyond, entries, matching, queue, total }: typeof Listed.Type): ReadonlyArray<string> => {
  if (total === 0) return [`Nothing is kept in ${queue}.`]
  const rows = entries.map(({ at, bytes, code, credential, id, messageId, method }) => [
    at === null ? "?" : clock(at),
    id,
    code || "(put there by somebody else)",
    method ?? "-",
    credential ?? "-",
    messageId ?? "-",
    number(bytes)
  ])
  const some = entries.length < matching ? `the oldest ${number(entries.length)} of ` : ""
  return [
    ...(rows.length === 0 ? [] : table(["kept", "id", "code", "method", "credential", "message_id", "bytes"], rows)),
    `${some}${number(matching)} that match; ${number(total)} in ${queue}${beyond > 0 ? `, of which the last ${number(beyond)} were not looked at` : ""}`
  ]
}

/** A longer body is cut on a terminal. */
const longestBody = 4_000

/** One that is kept, as lines. */
export const shownLines = (shown: typeof Shown.Type): ReadonlyArray<string> => {
  const { at, base64, body, bytes, code, correlationId, credential, headers, id, messageId, method, queue, reason } =
    shown
  const lines = [
    ["id", id],
    ["kept", at === null ? "by somebody else" : clock(at)],
    ["code", code],
    ["reason", reason],
    ["queue", queue],
    ["method", method ?? "(none, or not well-formed)"],
    ["credential", credential ?? "(none, or not well-formed)"],
    ["message_id", messageId ?? "(none)"],
    ["correlation_id", correlationId ?? "(none)"],
    ["headers", headers.join(", ")],
    ["body", `${number(bytes)} bytes${body === null ? ", not UTF-8, here as base64" : ""}`]
  ].map(([name = "", text = ""]) => `${name.padEnd(16)}${text}`)
  const text = body ?? base64 ?? ""
  return [...lines, "", text.length > longestBody ? `${text.slice(0, longestBody)}... (--json shows all of it)` : text]
}

/** What a replay has come to, in a sentence. */
export const replayLine = ({ again, answered, moved, rate, reason, state }: typeof ReplayState.Type): string => {
  const so = `${number(moved)} moved, ${number(answered)} answered, ${number(again)} of these kept again`
  switch (state) {
    case "running":
      return `Under way at ${number(rate)}/s: ${so}.`
    case "finished":
      return `Finished: ${so}.`
    case "stopped":
      return `Stopped: ${so}. Why: ${reason}. See "rejected list", remove the cause, then "rejected replay --resume".`
  }
}
