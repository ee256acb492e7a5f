import type { Report } from "../cause.ts"
import { type Language, lengthOf, whole } from "../length.ts"

type Reason = Report["waiting"][number]["reason"]

/** What the page says, but for the causes and the advice: these come in both languages by themselves. */
const english = {
  kind: { fails: "Needs you", waits: "Waiting", fine: "All is well" },
  silent: (for_: string) => `Nothing was heard from the bridge for ${for_}: has it ended? It is tried again by itself.`,
  up: (for_: string) => `up for ${for_}`,
  left: "Left to do",
  through: (span: string) => `through in about ${span}`,
  noEstimate: "no estimate: nothing moves",
  orMore: "or more: a queue is not known",
  allDone: "all is answered",
  minute: "Answers a minute",
  hour: (count: string) => `${count} in the last hour`,
  takes: "Arrival to answer",
  most: (span: string) => `95 of 100 within ${span}`,
  noAnswers: "no answer in the last minute",
  inFlight: "In flight",
  calls: (calls: string, allowed: string) => `in ${calls} of ${allowed} calls`,
  waiting: "Waiting here",
  parked: (count: string) => `${count} parked besides`,
  unread: "Answers not read",
  answersPlot: "Answers a second",
  answered: "answered",
  refused: "refused",
  latencyPlot: "Arrival to answer",
  half: "half within",
  most95: "95 of 100 within",
  gathering: "The first answers appear here.",
  why: "What waits, and why",
  nothingWaits: "Nothing waits.",
  oldest: (span: string) => `the oldest for ${span}`,
  goesOn: (when: string) => `goes on ${when}`,
  reasons: {
    pause: "the operator's pause",
    broker: "the broker",
    "portal unavailable": "the portal, which does not answer",
    journal: "the journal",
    rate: "the portal's rate",
    "operating time": "operating time of a method",
    concurrency: "a free call",
    order: "an earlier request of the same order",
    repetition: "the same request, under way already",
    company: "others, to share a call"
  } satisfies Record<Reason, string>,
  in_: (span: string) => `in ${span}`,
  now: "now",
  ago: (span: string) => `${span} ago`,
  budgets: "The portal's budgets",
  rate: "Rate",
  rateUsed: (level: string, depth: string, perSecond: string) =>
    `${level} of ${depth} used, ${perSecond} a second come free`,
  noRate: "no limit is known",
  paused: (when: string) => `paused, goes on ${when}`,
  operating: "Operating time",
  noBudgets: "None was counted yet.",
  secondsUsed: (used: string, allowed: string | undefined) =>
    allowed === undefined ? `${used} s` : `${used} of ${allowed} s`,
  opens: (when: string) => `closed, opens ${when}`,
  waitFor: (count: string) => `${count} wait`,
  more: (count: string) => `and ${count} more with less used`,
  refusals: "Last refusals",
  noRefusals: "None since the start.",
  noCode: "(no code)",
  times: (count: string) => `${count} times`,
  message: "message",
  webhook: "webhook",
  link: "Connections",
  broker: "Broker",
  portal: "Portal",
  journal: "Journal",
  intake: "Requests from",
  answersTo: "Answers to",
  connected: (span: string) => `connected for ${span}`,
  notConnected: (span: string) => `not connected for ${span}`,
  health: { well: "answers", suspect: "doubtful", away: "does not answer" },
  journalKinds: { off: "off", file: "file", postgres: "PostgreSQL" },
  journalStates: { opening: "opening", ready: "ready", standby: "held by another bridge", failed: "cannot be written" },
  consuming: "consuming",
  notConsuming: "not consuming",
  lie: (count: string) => `${count} in it`,
  history: "History of the link",
  link_: {
    up: "connected",
    failed: "not to be had",
    lost: "lost",
    blocked: "takes no messages",
    unblocked: "takes messages again"
  },
  errors: "Last warnings and errors",
  noErrors: "None since the start.",
  settings: { rate: "rate", concurrency: "concurrency", pack: "pack", logLevel: "log level", prefetch: "prefetch" },
  footer: "This page only shows. Commands steer: B24RMQ pause, resume, set."
}

type Words = {
  readonly [K in keyof typeof english]: (typeof english)[K] extends (...args: infer A) => string
    ? (...args: A) => string
    : (typeof english)[K] extends string
      ? string
      : Readonly<Record<keyof (typeof english)[K], string>>
}

const russian: Words = {
  kind: { fails: "Нужно вмешательство", waits: "Ждёт", fine: "Всё в порядке" },
  silent: (for_) => `Мост молчит уже ${for_}: не остановлен ли он? Попытки идут сами.`,
  up: (for_) => `работает ${for_}`,
  left: "Осталось",
  through: (span) => `примерно на ${span}`,
  noEstimate: "без оценки: ничего не движется",
  orMore: "или больше: очередь не видна",
  allDone: "на всё отвечено",
  minute: "Ответов за минуту",
  hour: (count) => `${count} за последний час`,
  takes: "Время до ответа",
  most: (span) => `95 из 100 за ${span}`,
  noAnswers: "за минуту ответов не было",
  inFlight: "Выполняется",
  calls: (calls, allowed) => `вызовов ${calls} из ${allowed}`,
  waiting: "Ждут здесь",
  parked: (count) => `ещё отложено: ${count}`,
  unread: "Не прочитано",
  answersPlot: "Ответов в секунду",
  answered: "всего",
  refused: "отказы",
  latencyPlot: "Время от прихода до ответа",
  half: "половина за",
  most95: "95 из 100 за",
  gathering: "Здесь появятся первые ответы.",
  why: "Что ждёт и почему",
  nothingWaits: "Ничего не ждёт.",
  oldest: (span) => `дольше всех ${span}`,
  goesOn: (when) => `дальше ${when}`,
  reasons: {
    pause: "конца паузы, её включил оператор",
    broker: "брокера",
    "portal unavailable": "портала, он не отвечает",
    journal: "журнала",
    rate: "очереди по частоте портала",
    "operating time": "времени выполнения метода",
    concurrency: "свободного вызова",
    order: "более раннего запроса с тем же order",
    repetition: "ответа на такой же запрос",
    company: "попутчиков, чтобы ехать одним вызовом"
  },
  in_: (span) => `через ${span}`,
  now: "сейчас",
  ago: (span) => `${span} назад`,
  budgets: "Пределы портала",
  rate: "Частота",
  rateUsed: (level, depth, perSecond) => `занято ${level} из ${depth}, освобождается ${perSecond} в секунду`,
  noRate: "предел неизвестен",
  paused: (when) => `пауза, дальше ${when}`,
  operating: "Время выполнения",
  noBudgets: "Пока ничего не насчитано.",
  secondsUsed: (used, allowed) => (allowed === undefined ? `${used} с` : `${used} из ${allowed} с`),
  opens: (when) => `закрыт, откроется ${when}`,
  waitFor: (count) => `ждут: ${count}`,
  more: (count) => `и ещё ${count}, где занято меньше`,
  refusals: "Последние отказы",
  noRefusals: "С запуска не было.",
  noCode: "(без кода)",
  times: (count) => `раз: ${count}`,
  message: "сообщение",
  webhook: "вебхук",
  link: "Связь",
  broker: "Брокер",
  portal: "Портал",
  journal: "Журнал",
  intake: "Запросы из",
  answersTo: "Ответы в",
  connected: (span) => `на связи ${span}`,
  notConnected: (span) => `нет связи ${span}`,
  health: { well: "отвечает", suspect: "под вопросом", away: "не отвечает" },
  journalKinds: { off: "выключен", file: "файл", postgres: "PostgreSQL" },
  journalStates: { opening: "открывается", ready: "готов", standby: "у другого моста", failed: "не записывается" },
  consuming: "читается",
  notConsuming: "не читается",
  lie: (count) => `в ней ${count}`,
  history: "История связи",
  link_: {
    up: "есть связь",
    failed: "не удалось",
    lost: "потеряна",
    blocked: "сообщения не принимаются",
    unblocked: "сообщения снова принимаются"
  },
  errors: "Последние предупреждения и ошибки",
  noErrors: "С запуска не было.",
  settings: {
    rate: "частота",
    concurrency: "вызовов сразу",
    pack: "упаковка",
    logLevel: "уровень лога",
    prefetch: "prefetch"
  },
  footer: "Страница только показывает. Управляют команды: B24RMQ pause, resume, set."
}

/** How numbers and times are written, and the words between them. */
export const speechOf = (language: Language) => {
  const locale = { en: "en-GB", ru: "ru-RU" }[language]
  const decimal = new Intl.NumberFormat(language, { maximumFractionDigits: 1 })
  const fine = new Intl.NumberFormat(language, { maximumSignificantDigits: 2 })
  const time = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" })
  const short = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" })
  const day = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" })
  return {
    language,
    words: language === "ru" ? russian : english,
    /** Not to be broken where its thousands part. */
    whole: (value: number) => whole(value, language).replaceAll(" ", "\u00a0"),
    decimal: (value: number) => decimal.format(value),
    length: (seconds: number) => lengthOf(seconds, language),
    /** A length of time that may be shorter than a second. */
    latency: (seconds: number) =>
      seconds < 1
        ? `${Math.round(seconds * 1_000)} ${language === "en" ? "ms" : "мс"}`
        : seconds < 10
          ? `${fine.format(seconds)} ${language === "en" ? "s" : "с"}`
          : lengthOf(seconds, language),
    clock: (at: number) => time.format(at),
    minute: (at: number) => short.format(at),
    /** With the day where that is another one. */
    moment: (at: number, now: number) =>
      day.format(at) === day.format(now) ? time.format(at) : `${day.format(at)}, ${time.format(at)}`
  }
}

export type Speech = ReturnType<typeof speechOf>
