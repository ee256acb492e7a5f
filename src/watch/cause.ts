import { Schema } from "effect"
import { type Language, lengthOf, whole as number } from "./length.ts"
import { Status } from "./status.ts"

/** Why the bridge does what it does, in one sentence that names the remedy where there is one. */
export const Cause = Schema.Struct({
  code: Schema.String,
  /** `fails`: a person has to see to it. `waits`: on purpose, or for a limit that passes. `fine`: nothing is the matter. */
  kind: Schema.Literals(["fails", "waits", "fine"]),
  /** Requests are being answered, or would be if there were any. */
  moves: Schema.Boolean,
  en: Schema.String,
  ru: Schema.String
})

export type Cause = typeof Cause.Type

interface Rule {
  readonly code: string
  readonly kind: Cause["kind"]
  readonly moves: boolean
  readonly holds: (status: Status) => boolean
  readonly en: (status: Status) => string
  readonly ru: (status: Status) => string
}

type Waits = Status["waiting"][number]

const waitingFor = (status: Status, ...reasons: ReadonlyArray<Waits["reason"]>) =>
  status.waiting.reduce((sum, { reason, count }) => sum + (reasons.includes(reason) ? count : 0), 0)

const closedMethods = ({ budgets }: Status) => budgets.filter(({ closedUntil }) => closedUntil !== null)

/** Those that rest do so for a closed method. */
const forMethods = (status: Status) =>
  closedMethods(status).length === 0 ? 0 : waitingFor(status, "operating time") + status.parked.count

/** Where the rate is scarce, those that wait for company wait for the rate. */
const forRate = (status: Status) => {
  const { perSecond, depth, level } = status.rate
  const scarce = perSecond !== null && depth !== null && level + 2 * perSecond >= depth
  return waitingFor(status, "rate", ...(scarce ? (["company"] as const) : []))
}

/** How long a refused credential is spoken of when it is not used any more, in milliseconds. */
const memorable = 300_000

const refusedOf = ({ at, refusedCredentials }: Status) =>
  refusedCredentials.filter((refusal) => at - refusal.at < memorable)

const troubles = (status: Status) =>
  status.intake.queues.flatMap(({ queue, consuming, trouble }) =>
    consuming || trouble === null ? [] : [{ queue, ...trouble }]
  )

const troubled = (status: Status, event: string) => troubles(status).filter((trouble) => trouble.event === event)

const namesOf = (some: ReadonlyArray<{ readonly queue: string }>) => some.map(({ queue }) => queue).join(", ")

const ago = (status: Status, since: number | null, language: Language) =>
  since === null ? "" : ` ${language === "en" ? "for" : "уже"} ${lengthOf((status.at - since) / 1_000, language)}`

const reasonIn = (reason: string | null) => (reason === null ? "" : ` (${reason})`)

/** `312/min`, what holds the rest, how much is left and how long that takes. */
const paced = (status: Status, language: Language, why?: string) => {
  const { backlog, pace } = status
  const parts = [`${number(pace.minute.answers, language)}/${language === "en" ? "min" : "мин"}`]
  if (why !== undefined) parts.push(why)
  if (backlog.left > 0) parts.push(`${number(backlog.left, language)} ${language === "en" ? "left" : "осталось"}`)
  if (backlog.left > 0 && backlog.seconds !== null)
    parts.push(`${language === "en" ? "about" : "около"} ${lengthOf(backlog.seconds, language)}`)
  return parts.join(", ")
}

const lately = (status: Status, language: Language) =>
  status.pace.minute.answers === 0 ? "" : `${paced(status, language)}, `

const rateText = ({ rate }: Status, second: string) => `${Number((rate.perSecond ?? 0).toFixed(2))}/${second}`

const firstClosed = (status: Status) => {
  const [first] = closedMethods(status).toSorted((a, b) => (a.closedUntil ?? 0) - (b.closedUntil ?? 0))
  const seconds = first?.closedUntil == null ? 0 : Math.max(0, first.closedUntil - status.at) / 1_000
  return { method: first?.method ?? "", seconds }
}

const idle: Rule = {
  code: "idle",
  kind: "fine",
  moves: true,
  holds: () => true,
  en: (s) => `${lately(s, "en")}nothing to do: ${s.settings.in.join(", ")} is empty; send requests there`,
  ru: (s) => `${lately(s, "ru")}делать нечего: очередь ${s.settings.in.join(", ")} пуста; присылайте запросы в неё`
}

/** The first that holds is the cause. Texts name the remedy; both languages say the same. */
const rules: ReadonlyArray<Rule> = [
  {
    code: "broker-down",
    kind: "fails",
    moves: false,
    holds: ({ broker }) => !broker.up,
    en: (s) =>
      `no connection to the broker${ago(s, s.broker.since, "en")}${reasonIn(s.broker.reason)}: start RabbitMQ, or correct AMPQURL; it is tried again by itself`,
    ru: (s) =>
      `нет соединения с брокером${ago(s, s.broker.since, "ru")}${reasonIn(s.broker.reason)}: запустите RabbitMQ или исправьте AMPQURL; попытки идут сами`
  },
  {
    code: "standby",
    kind: "waits",
    moves: false,
    holds: ({ journal }) => journal.state === "standby",
    en: () =>
      "standing by: another bridge holds this journal and works; nothing to do, this one takes over when it ends",
    ru: () =>
      "в запасе: журнал держит другой мост, он и работает; делать ничего не надо, этот сменит его, когда тот закончит"
  },
  {
    code: "paused",
    kind: "waits",
    moves: false,
    holds: ({ paused }) => paused !== null,
    en: (s) => `paused by the operator${ago(s, s.paused, "en")}: the command resume goes on`,
    ru: (s) => `пауза по команде оператора${ago(s, s.paused, "ru")}: продолжит команда resume`
  },
  {
    code: "broker-blocked",
    kind: "fails",
    moves: false,
    holds: ({ broker }) => broker.blocked !== null,
    en: (s) => `the broker takes no messages${reasonIn(s.broker.blocked)}: free memory or disk space there`,
    ru: (s) => `брокер не принимает сообщения${reasonIn(s.broker.blocked)}: освободите там память или место на диске`
  },
  {
    code: "answer-queue-missing",
    kind: "fails",
    moves: false,
    holds: ({ answers }) => answers.trouble?.kind === "missing",
    en: ({ answers, settings }) =>
      `the answer queue ${answers.queue} does not exist: create it${settings.declare ? ", or wait until it is declared again within 30 s" : ", or set B24RMQ_DECLARE=yes"}`,
    ru: ({ answers, settings }) =>
      `очереди ответов ${answers.queue} нет: создайте её${settings.declare ? " или подождите, она будет объявлена снова в течение 30 с" : " или задайте B24RMQ_DECLARE=yes"}`
  },
  {
    code: "answer-queue-full",
    kind: "fails",
    moves: false,
    holds: ({ answers }) => answers.trouble?.kind === "full",
    en: ({ answers }) =>
      `the answer queue ${answers.queue} refuses messages: have its answers read, or raise its limit`,
    ru: ({ answers }) =>
      `очередь ответов ${answers.queue} отвергает сообщения: пусть ответы читают, или поднимите её предел`
  },
  {
    code: "answers-closed",
    kind: "fails",
    moves: false,
    holds: ({ answers }) => answers.trouble?.kind === "channel",
    en: ({ answers }) =>
      `answers cannot be published to ${answers.queue}${reasonIn(answers.trouble?.reason ?? null)}: give the user the write right, or see the broker's log`,
    ru: ({ answers }) =>
      `ответы не публикуются в ${answers.queue}${reasonIn(answers.trouble?.reason ?? null)}: дайте пользователю право записи или загляните в лог брокера`
  },
  {
    code: "queue-missing",
    kind: "fails",
    moves: false,
    holds: (s) => troubled(s, "queue-missing").length > 0,
    en: (s) =>
      `the queue ${namesOf(troubled(s, "queue-missing"))} does not exist: create it${s.settings.declare ? ", or wait until it is declared again within 30 s" : ", or set B24RMQ_DECLARE=yes"}`,
    ru: (s) =>
      `очереди ${namesOf(troubled(s, "queue-missing"))} нет: создайте её${s.settings.declare ? " или подождите, она будет объявлена снова в течение 30 с" : " или задайте B24RMQ_DECLARE=yes"}`
  },
  {
    code: "consumer-cancelled",
    kind: "fails",
    moves: false,
    holds: (s) => troubled(s, "consumer-cancelled").length > 0,
    en: (s) =>
      `the broker cancelled the consumer of ${namesOf(troubled(s, "consumer-cancelled"))}: see whether the queue was deleted or moved; subscribing again by itself`,
    ru: (s) =>
      `брокер отменил подписку на ${namesOf(troubled(s, "consumer-cancelled"))}: посмотрите, не удалили ли и не перенесли ли очередь; подписка восстанавливается сама`
  },
  {
    code: "cannot-consume",
    kind: "fails",
    moves: false,
    holds: (s) => troubles(s).length > 0,
    en: (s) =>
      `no requests can be taken from ${namesOf(troubles(s))}${reasonIn(troubles(s)[0]?.reason ?? null)}: give the user the read right, or see the broker's log`,
    ru: (s) =>
      `не удаётся брать запросы из ${namesOf(troubles(s))}${reasonIn(troubles(s)[0]?.reason ?? null)}: дайте пользователю право чтения или загляните в лог брокера`
  },
  {
    code: "account-blocked",
    kind: "fails",
    moves: false,
    holds: ({ portal }) => portal.accountBlocked,
    en: (s) =>
      `the portal refuses the whole account${reasonIn(s.portal.reason)}: settle it with the portal's owner or the vendor`,
    ru: (s) =>
      `портал отказывает всей учётной записи${reasonIn(s.portal.reason)}: решите это с владельцем портала или с Битрикс24`
  },
  {
    code: "portal-down",
    kind: "fails",
    moves: false,
    holds: ({ portal }) => portal.health === "away",
    en: (s) =>
      `the portal ${s.settings.portal} does not answer${ago(s, s.portal.since, "en")}${reasonIn(s.portal.reason)}: see that it works and can be reached from here; requests are held and nothing is lost`,
    ru: (s) =>
      `портал ${s.settings.portal} не отвечает${ago(s, s.portal.since, "ru")}${reasonIn(s.portal.reason)}: проверьте, что он работает и доступен отсюда; запросы удерживаются, ничего не теряется`
  },
  {
    code: "journal-full",
    kind: "fails",
    moves: false,
    holds: ({ journal }) => journal.state === "failed" && /B24RMQ_JOURNAL_MAX/.test(journal.reason ?? ""),
    en: () =>
      "the journal has reached B24RMQ_JOURNAL_MAX, so that writes wait: raise it, or let open requests be answered",
    ru: () =>
      "журнал достиг B24RMQ_JOURNAL_MAX, поэтому записи ждут: увеличьте предел или дождитесь ответов на открытые запросы"
  },
  {
    code: "journal-failed",
    kind: "fails",
    moves: false,
    holds: ({ journal }) => journal.state === "failed",
    en: (s) =>
      `the journal cannot be written${reasonIn(s.journal.reason)}, so that writes wait: see to its disk, its rights or its database`,
    ru: (s) =>
      `журнал не записывается${reasonIn(s.journal.reason)}, поэтому записи ждут: проверьте его диск, права или базу данных`
  },
  {
    code: "stalled",
    kind: "fails",
    moves: false,
    holds: ({ stalls }) => stalls.length > 0,
    en: ({ stalls }) =>
      `work does not move (${stalls[0]?.what}): a part is restarted by itself; if that does not help, restart the service and report it with the command diag`,
    ru: ({ stalls }) =>
      `работа не движется (${stalls[0]?.what}): часть моста перезапускается сама; если не поможет, перезапустите службу и сообщите об этом, приложив вывод команды diag`
  },
  {
    code: "credential-refused",
    kind: "fails",
    moves: true,
    holds: (s) => refusedOf(s).length > 0,
    en: (s) => {
      const last = refusedOf(s).at(-1)
      return `the portal refuses the webhook ${last?.credential}${reasonIn(last?.code ?? null)}: create a new one, or correct user and token in the producer`
    },
    ru: (s) => {
      const last = refusedOf(s).at(-1)
      return `портал отвергает вебхук ${last?.credential}${reasonIn(last?.code ?? null)}: создайте новый или исправьте user и token у того, кто шлёт запросы`
    }
  },
  {
    code: "not-consuming",
    kind: "waits",
    moves: false,
    holds: ({ intake }) => !intake.consuming && intake.wanted === "taking",
    en: ({ settings }) =>
      `about to take requests from ${settings.in.join(", ")}: if this lasts longer than 20 s, stop whoever else consumes them`,
    ru: ({ settings }) =>
      `сейчас начнёт брать запросы из ${settings.in.join(", ")}: если это дольше 20 с, остановите того, кто ещё их читает`
  },
  {
    code: "method-closed",
    kind: "waits",
    moves: true,
    holds: (s) => forMethods(s) > forRate(s),
    en: (s) => {
      const { method, seconds } = firstClosed(s)
      return `${paced(s, "en", `${method} waits for its operating time (opens in ${lengthOf(seconds, "en")})`)}: wait, or ask less of this method`
    },
    ru: (s) => {
      const { method, seconds } = firstClosed(s)
      return `${paced(s, "ru", `${method} ждёт времени выполнения (откроется через ${lengthOf(seconds, "ru")})`)}: подождите или реже вызывайте этот метод`
    }
  },
  {
    code: "rate-bound",
    kind: "waits",
    moves: true,
    holds: (s) => forRate(s) > 0,
    en: (s) =>
      `${paced(s, "en", "waiting for rate")}: the portal takes ${rateText(s, "s")}${s.settings.pack === "all" ? "; a larger plan takes more" : "; B24RMQ_PACK=all or a larger plan takes more"}`,
    ru: (s) =>
      `${paced(s, "ru", "ждут очереди по частоте")}: портал принимает ${rateText(s, "с")}${s.settings.pack === "all" ? "; больше принимает старший тариф" : "; больше пройдёт с B24RMQ_PACK=all или на старшем тарифе"}`
  },
  {
    code: "working",
    kind: "fine",
    moves: true,
    holds: ({ backlog, inFlight }) => backlog.left > 0 || inFlight.calls > 0,
    en: (s) => paced(s, "en"),
    ru: (s) => paced(s, "ru")
  }
]

const asCause = ({ code, kind, moves, en, ru }: Rule, status: Status): Cause => ({
  code,
  kind,
  moves,
  en: en(status),
  ru: ru(status)
})

/** The one cause, and what else is the matter besides. Pure and total. */
export const causesOf = (status: Status): readonly [Cause, ...ReadonlyArray<Cause>] => {
  const [first = idle, ...rest] = rules.filter(({ holds }) => holds(status))
  const others = rest.filter(({ kind }) => kind !== "fine")
  return [asCause(first, status), ...others.map((rule) => asCause(rule, status))]
}

export const causeOf = (status: Status): Cause => causesOf(status)[0]

/** The codes, in their precedence. */
export const causeCodes: ReadonlyArray<string> = [...rules, idle].map(({ code }) => code)

/** What is sent to those who ask: the status, its cause, and what else is the matter. */
export const Report = Schema.Struct({ cause: Cause, also: Schema.Array(Cause), ...Status.fields })

export type Report = typeof Report.Type

export const reportOf = (status: Status): Report => {
  const [cause, ...also] = causesOf(status)
  return { cause, also, ...status }
}

/** Three conditions, all of which have to hold for the bridge to be ready. */
export const Ready = Schema.Struct({
  ready: Schema.Boolean,
  /** There is a link to the broker, and it takes messages. */
  connected: Schema.Boolean,
  /** A consumer is attached to each queue. */
  consuming: Schema.Boolean,
  /** Requests are answered, or would be if there were any. */
  moving: Schema.Boolean,
  cause: Cause
})

export const readyOf = (status: Status): typeof Ready.Type => {
  const cause = causeOf(status)
  const connected = status.broker.up && status.broker.blocked === null
  const { consuming } = status.intake
  return { ready: connected && consuming && cause.moves, connected, consuming, moving: cause.moves, cause }
}
