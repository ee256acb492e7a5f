import { adviceFor } from "../advice.ts"
import type { Report } from "../cause.ts"
import { type Child, h } from "./dom.ts"
import type { Speech } from "./words.ts"

/** The status as elements. Pure, but for making them. */

/** Budgets that are shown: the scarcest come first. */
const mostBudgets = 12

export const head = (report: Report, speech: Speech): ReadonlyArray<Element> => {
  const { settings } = report
  const at = new Date(report.at).toISOString()
  return [
    h("h1", {}, "B24RMQ"),
    h("p", { class: "route" }, `${settings.in.join(", ")} → ${settings.portal} → ${settings.out}`),
    h(
      "p",
      { class: "alive" },
      `${report.version}, ${speech.words.up(speech.length((report.at - report.since) / 1_000))} · `,
      h("time", { datetime: at }, speech.clock(report.at))
    )
  ]
}

export const top = (report: Report, speech: Speech): ReadonlyArray<Element> => {
  const { also, cause } = report
  const { language, words } = speech
  const others = also.map((other) => h("li", { class: other.kind }, other[language]))
  return [
    h(
      "section",
      { class: `cause ${cause.kind}` },
      h("h2", {}, words.kind[cause.kind]),
      h("p", {}, cause[language]),
      others.length === 0 ? undefined : h("ul", {}, ...others)
    ),
    h("dl", { class: "figures" }, ...figures(report, speech))
  ]
}

const figure = (title: string, value: string, note: string) =>
  h("div", {}, h("dt", {}, title), h("dd", {}, value), h("dd", { class: "note" }, note))

const figures = ({ answers, backlog, inFlight, pace, parked, waiting }: Report, speech: Speech) => {
  const { latency, length, whole, words } = speech
  const { half, most } = pace.minute
  const estimate = () => {
    if (!backlog.known) return words.orMore
    if (backlog.left === 0) return words.allDone
    return backlog.seconds === null ? words.noEstimate : words.through(length(backlog.seconds))
  }
  return [
    figure(words.left, whole(backlog.left), estimate()),
    // The hour is summed up less often.
    figure(
      words.minute,
      whole(pace.minute.answers),
      words.hour(whole(Math.max(pace.minute.answers, pace.hour.answers)))
    ),
    figure(
      words.takes,
      half === null ? "–" : latency(half),
      most === null ? words.noAnswers : words.most(latency(most))
    ),
    figure(words.inFlight, whole(inFlight.requests), words.calls(whole(inFlight.calls), whole(inFlight.allowed))),
    figure(words.waiting, whole(waiting.reduce((sum, { count }) => sum + count, 0)), words.parked(whole(parked.count))),
    figure(words.unread, answers.ready === null ? "?" : whole(answers.ready), answers.queue)
  ]
}

export const rest = (report: Report, speech: Speech): ReadonlyArray<Element> => {
  const { words } = speech
  const card = (title: string, ...children: ReadonlyArray<Element>) =>
    h("section", { class: "card" }, h("h2", {}, title), ...children)
  return [
    h(
      "div",
      { class: "column" },
      card(words.why, waits(report, speech)),
      card(words.refusals, refusals(report, speech))
    ),
    h(
      "div",
      { class: "column" },
      card(words.budgets, ...budgets(report, speech)),
      card(words.link, ...connections(report, speech))
    ),
    card(words.errors, errors(report, speech)),
    footer(report, speech)
  ]
}

const nothing = (text: string) => h("p", { class: "nothing" }, text)

/** A moment to come, as how long that is and when. */
const ahead = (report: Report, until: number, { clock, length, words }: Speech) =>
  until <= report.at ? words.now : `${words.in_(length((until - report.at) / 1_000))} (${clock(until)})`

const past = (report: Report, at: number, { length, words }: Speech) =>
  words.ago(length(Math.max(0, report.at - at) / 1_000))

const waits = (report: Report, speech: Speech) => {
  const { length, whole, words } = speech
  if (report.waiting.length === 0) return nothing(words.nothingWaits)
  return h(
    "ul",
    { class: "waits" },
    ...report.waiting.map(({ count, reason, since, until }) =>
      h(
        "li",
        {},
        h("p", { class: "name" }, h("span", {}, words.reasons[reason]), h("b", {}, whole(count))),
        h(
          "p",
          { class: "who" },
          [
            words.oldest(length(Math.max(0, report.at - since) / 1_000)),
            ...(until === null ? [] : [words.goesOn(ahead(report, until, speech))])
          ].join(", ")
        )
      )
    )
  )
}

interface Budget {
  readonly name: Child
  readonly label: string
  readonly used: number
  readonly allowed: number | null
  readonly text: string
  /** What it stops, and until when. */
  readonly state: ReadonlyArray<string>
  readonly isClosed: boolean
}

/** A budget as a gauge: scarce from three quarters, and exhausted where it is closed. */
const gauge = ({ allowed, isClosed, label, name, state, text, used }: Budget) =>
  h(
    "li",
    {},
    h("p", { class: "name" }, name, h("span", { class: "used" }, text)),
    allowed === null
      ? undefined
      : h("meter", {
          min: 0,
          max: allowed,
          value: Math.min(allowed, Math.max(0, used)).toFixed(2),
          low: allowed * 0.75,
          high: isClosed ? allowed * 0.75 : allowed,
          optimum: 0,
          "aria-label": label,
          "aria-valuetext": text
        }),
    state.length === 0 ? undefined : h("p", { class: "state" }, state.join(", "))
  )

const rateOf = (report: Report, speech: Speech): Budget => {
  const { depth, level, pausedUntil, perSecond } = report.rate
  const { decimal, whole, words } = speech
  return {
    name: h("span", {}, words.rate),
    label: words.rate,
    used: level,
    allowed: depth,
    text: depth === null ? words.noRate : words.rateUsed(whole(level), whole(depth), decimal(perSecond ?? 0)),
    state: pausedUntil === null ? [] : [words.paused(ahead(report, pausedUntil, speech))],
    isClosed: pausedUntil !== null
  }
}

const operatingOf =
  (report: Report, speech: Speech) =>
  ({ allowed, closedUntil, credential, method, used, waiting }: Report["budgets"][number]): Budget => {
    const { decimal, whole, words } = speech
    return {
      name: h("span", {}, h("code", {}, method), h("small", {}, `${words.webhook} ${credential}`)),
      label: `${method} ${credential}`,
      used,
      allowed,
      text: words.secondsUsed(decimal(used), allowed === null ? undefined : decimal(allowed)),
      state: [
        ...(closedUntil === null ? [] : [words.opens(ahead(report, closedUntil, speech))]),
        ...(waiting === 0 ? [] : [words.waitFor(whole(waiting))])
      ],
      isClosed: closedUntil !== null
    }
  }

const budgets = (report: Report, speech: Speech): ReadonlyArray<Element> => {
  const { whole, words } = speech
  const methods = report.budgets.slice(0, mostBudgets).map(operatingOf(report, speech))
  const hidden = report.budgets.length - methods.length
  return [
    h("ul", { class: "budgets" }, gauge(rateOf(report, speech))),
    h("h3", {}, words.operating),
    methods.length === 0 ? nothing(words.noBudgets) : h("ul", { class: "budgets" }, ...methods.map(gauge)),
    ...(hidden === 0 ? [] : [nothing(words.more(whole(hidden)))])
  ]
}

const times = (count: number, { whole, words }: Speech) =>
  count > 1 ? h("span", { class: "times" }, words.times(whole(count))) : undefined

const refusals = (report: Report, speech: Speech) => {
  const { language, words } = speech
  if (report.refusals.length === 0) return nothing(words.noRefusals)
  return h(
    "ol",
    { class: "entries", tabindex: 0, "aria-label": words.refusals },
    ...report.refusals.toReversed().map(({ at, code, credential, messageId, method, times: count }) => {
      const who = [
        credential === null ? [] : [`${words.webhook} ${credential}`],
        messageId === null ? [] : [`${words.message} ${messageId}`]
      ].flat()
      return h(
        "li",
        {},
        h(
          "p",
          { class: "name" },
          h("code", {}, code || words.noCode),
          times(count, speech),
          h("span", { class: "ago" }, past(report, at, speech))
        ),
        h("p", {}, adviceFor(code)[language]),
        h("p", { class: "who" }, method === null ? undefined : h("code", {}, method), who.join(", "))
      )
    })
  )
}

const connections = (report: Report, speech: Speech): ReadonlyArray<Element> => {
  const { answers, broker, intake, journal, portal, settings } = report
  const { length, whole, words } = speech
  const span = (since: number) => length(Math.max(0, report.at - since) / 1_000)
  const row = (name: string, isWell: boolean, text: string, reason: string | null = null) =>
    h(
      "div",
      { class: isWell ? "well" : "ill" },
      h("dt", {}, name),
      h("dd", {}, reason === null ? text : `${text}: ${reason}`)
    )
  const ready = (count: number | null) => words.lie(count === null ? "?" : whole(count))
  return [
    h(
      "dl",
      { class: "connections" },
      row(
        words.broker,
        broker.up && broker.blocked === null,
        (broker.up ? words.connected : words.notConnected)(span(broker.since ?? report.since)),
        broker.blocked === null ? broker.reason : `${words.link_.blocked} (${broker.blocked})`
      ),
      ...intake.queues.map(({ consuming, queue, ready: count, trouble }) =>
        row(
          `${words.intake} ${queue}`,
          consuming,
          `${consuming ? words.consuming : words.notConsuming}, ${ready(count)}`,
          trouble?.reason
        )
      ),
      row(
        `${words.answersTo} ${answers.queue}`,
        answers.trouble === null,
        ready(answers.ready),
        answers.trouble?.reason
      ),
      row(`${words.portal} ${settings.portal}`, portal.health === "well", words.health[portal.health], portal.reason),
      row(
        words.journal,
        journal.state === "ready",
        `${words.journalKinds[journal.kind]}, ${words.journalStates[journal.state]}`,
        journal.reason
      )
    ),
    h("h3", {}, words.history),
    h(
      "ol",
      { class: "entries short", tabindex: 0, "aria-label": words.history },
      ...broker.history
        .toReversed()
        .map(({ at, reason, times: count, what }) =>
          h(
            "li",
            {},
            h("time", { datetime: new Date(at).toISOString() }, speech.moment(at, report.at)),
            h("span", { class: `what ${what}` }, words.link_[what], times(count, speech)),
            reason === null ? undefined : h("span", { class: "why" }, reason)
          )
        )
    )
  ]
}

const errors = (report: Report, speech: Speech) => {
  if (report.errors.length === 0) return nothing(speech.words.noErrors)
  return h(
    "ol",
    { class: "entries short", tabindex: 0, "aria-label": speech.words.errors },
    ...report.errors
      .toReversed()
      .map(({ at, event, level, text, times: count }) =>
        h(
          "li",
          {},
          h("time", { datetime: new Date(at).toISOString() }, speech.moment(at, report.at)),
          h("span", { class: `what ${level}` }, event, times(count, speech)),
          h("span", { class: "why" }, text)
        )
      )
  )
}

const footer = ({ settings }: Report, { words }: Speech) => {
  const named = (["rate", "concurrency", "pack", "prefetch", "logLevel"] as const).map(
    (name) => `${words.settings[name]} ${settings[name]}`
  )
  return h("footer", {}, h("p", {}, named.join(" · ")), h("p", {}, words.footer))
}
