import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { type Event, events } from "../src/events.ts"

/** The documents that list the events, each in its language. */
export const documents = { en: "docs/log-events.md", ru: "docs/log-events.ru.md" } as const
type Language = keyof typeof documents
type Field = (typeof events)[Event][2][number]

/** What the events mean, in Russian; in English it is what the log says. */
const meanings: Readonly<Record<Event, string>> = {
  starting: "Мост запускается",
  "link-up": "Соединение с брокером установлено",
  "link-failed": "До брокера не достучаться; попытки продолжаются",
  "link-lost": "Соединение с брокером потеряно; устанавливается новое",
  "broker-blocked":
    "Брокер не принимает сообщения (сработал предел памяти или диска): новых вызовов нет, пока это так; освободите там память или диск",
  "broker-unblocked": "Брокер снова принимает сообщения",
  "queue-declared": "Недостающая очередь создана",
  "queue-missing": "Очереди нет; мост ждёт, пока её создадут",
  "channel-lost": "Канал закрыт; открывается новый",
  consuming: "Запросы берутся из очереди",
  "queue-shared":
    "Из этой очереди берёт запросы кто-то ещё: никто не может соблюсти их порядок и лимит портала; оставьте одного",
  "consumer-cancelled": "Брокер отменил потребителя (очередь удалена или перенесена?); мост подписывается снова",
  "intake-paused": "Пока портал недоступен, новые запросы не берутся",
  "returned-unsent":
    "Запросы, которые удерживались слишком долго, вернулись в очередь; мост возьмёт их, когда ожидание кончится",
  "parking-off": "Запросы, которым долго ждать, негде отложить; они остаются у моста и не дают брать другие",
  "parking-on": "Запросы, которым долго ждать, снова откладываются",
  "parked-in-use": "Отложенные запросы читает другое соединение; мост ждёт, пока оно уйдёт",
  "delivery-near-limit": "Запрос открыт уже давно: брокер может забрать его (consumer_timeout)",
  "answer-not-routed": "Очереди ответов нет; ответы удерживаются и публикуются снова",
  "answer-refused": "Очередь ответов отказывается от сообщений (заполнена?); ответы удерживаются и публикуются снова",
  "answer-too-large": "Ответ оказался слишком велик для брокера и был заменён",
  "portal-away": "Портал не отвечает; запросы удерживаются",
  "portal-back": "Портал снова отвечает",
  "rate-refused": "Портал отказал из-за слишком частых запросов; пауза",
  "method-closed": "Портал закрыл метод из-за времени выполнения; его запросы ждут",
  "credential-refused": "Портал отверг вебхук: создайте новый или исправьте пользователя и токен у отправителя",
  "account-blocked":
    "Портал отказывает всей учётной записи; человеку нужно решить это с владельцем портала или вендором",
  "outcome-in-doubt":
    "Запись отправлена, а ответа нет; мост выяснит, выполнилась ли она, когда портал наверняка закончит",
  "outcome-found": "Теперь известно, что стало с записью, которая была под сомнением",
  "outcome-unknown": "Вызов оборвался и мог выполниться; ответ `unknown`",
  "journal-ready": "Журнал открыт, запись в него возможна",
  "journal-standby":
    "Журнал занят другим мостом: этот ждёт в запасе, пока тот не закончит (мосту для других очередей нужен свой журнал)",
  "journal-failed": "В журнал не записать: записи ждут, чтения идут",
  "journal-full":
    "Журнал достиг B24RMQ_JOURNAL_MAX, и забыть из него нечего: записи ждут; увеличьте настройку или дайте ответить на открытые запросы",
  "journal-damaged":
    "Файл журнала повреждён: он отложен в сторону и начат новый; что было известно о прежних записях, потеряно",
  stalled: "Работа должна идти и не идёт, хотя ждать ей нечего; часть моста перезапускается",
  "stall-over": "То, что застряло, снова движется",
  "stall-stays":
    "То, что застряло, не движется и после всех перезапусков: systemd больше не получает признаков жизни и перезапустит службу, если задан WatchdogSec=; иначе перезапустите её сами",
  "answers-unconfirmed":
    "Брокер берёт ответы и не подтверждает их, хотя остальное подтверждает: проверьте, не потеряла ли очередь ответов лидера или большинство",
  "request-rejected": "Запрос нельзя отправить; в ответе названа причина",
  "rejected-not-kept":
    "Отклонённый запрос или отказ не удалось сохранить в очереди B24RMQ_REJECTED; ответ на него всё равно дан",
  "replay-started": "Сохранённые запросы возвращаются в свою очередь",
  "replay-stopped": "Возврат сохранённых запросов остановлен; устраните причину, затем B24RMQ rejected replay --resume",
  "replay-finished": "Возврат сохранённых запросов закончен",
  "request-answered": "На запрос дан ответ",
  paused: "Пауза по команде оператора: идущие вызовы завершаются, ничего больше не отправляется и не берётся до resume",
  resumed: "Оператор снял паузу",
  "setting-changed": "Настройка изменена до следующего запуска",
  "socket-open": "Команды принимаются через сокет",
  "socket-failed": "Команды не принимаются; мост работает без них и пробует снова",
  "http-open": "Страница состояния отдаётся",
  "http-failed": "Страница состояния не отдаётся; мост работает без неё и пробует снова",
  doing: "Изменилось то, что мост делает или чего ждёт",
  hindered: "Что-то мешает мосту работать",
  stopping: "Остановка: ничего нового не начинается, идущие вызовы завершаются",
  "drain-cut": "Остановка не дождалась всех вызовов; их запросы вернутся в очередь",
  stopped: "Остановлен",
  broken: "Дефект самого моста; пожалуйста, сообщите о нём"
}

/** What the fields hold. */
const fieldMeanings: Readonly<
  Record<Field | "time" | "level" | "event" | "message" | "more", Record<Language, string>>
> = {
  time: { en: "When, in UTC", ru: "Когда, по UTC" },
  level: { en: "`debug`, `info`, `warn`, `error` or `fatal`", ru: "`debug`, `info`, `warn`, `error` или `fatal`" },
  event: { en: "Name of the event", ru: "Имя события" },
  message: { en: "What it says to a person", ru: "Что оно говорит человеку (по-английски)" },
  more: {
    en: "How many more of this kind the line stands for; the other fields are those of the last one",
    ru: "Сколько ещё событий этого вида представляет строка; остальные поля взяты у последнего"
  },
  address: { en: "Where the page is served", ru: "Где отдаётся страница" },
  name: { en: "Name of the setting", ru: "Имя настройки" },
  value: { en: "Its value from now on", ru: "Её значение отныне" },
  socket: { en: "Path of the socket", ru: "Путь к сокету" },
  why: { en: "Code of the cause: docs/operate.md", ru: "Код причины: docs/operate.ru.md" },
  says: { en: "The cause in a sentence that names the remedy", ru: "Причина одним предложением и что делать" },
  about: {
    en: "Credential (user and digest of the token), and the method where it is about one",
    ru: "Учётные данные (пользователь и хеш токена) и метод, если речь о нём"
  },
  again: { en: "How many came back once more", ru: "Сколько из них вернулось снова" },
  answered: { en: "How many of them are answered", ru: "На сколько из них дан ответ" },
  attempts: { en: "How often the request was sent", ru: "Сколько раз запрос отправлялся" },
  bytes: { en: "Size of the answer in bytes", ru: "Размер ответа в байтах" },
  cause: { en: "The defect with its stack", ru: "Дефект и его стек" },
  code: { en: "Why: a code of docs/messages.md", ru: "Почему: код из docs/messages.ru.md" },
  file: { en: "Where the damaged file lies now", ru: "Где теперь лежит повреждённый файл" },
  message_id: { en: "`message_id` of the request", ru: "`message_id` запроса" },
  method: { en: "Method of the request", ru: "Метод запроса" },
  minutes: { en: "For how long it is open", ru: "Сколько минут он открыт" },
  moved: { en: "How many were moved back", ru: "Сколько возвращено в очередь" },
  outcome: { en: "`done`, `refused`, `rejected` or `unknown`", ru: "`done`, `refused`, `rejected` или `unknown`" },
  part: {
    en: "`intake`, `bridge`, `dispatch`, `portal` or `outlet`",
    ru: "`intake`, `bridge`, `dispatch`, `portal` или `outlet`"
  },
  pause_ms: { en: "For how many milliseconds nothing is called", ru: "Сколько миллисекунд вызовов не будет" },
  prefetch: { en: "How many requests may be open", ru: "Сколько запросов может быть открыто" },
  queue: { en: "Name of the queue", ru: "Имя очереди" },
  reason: { en: "Why, in words or as the portal's code", ru: "Почему: словами или кодом портала" },
  remedy: { en: "What is done about it", ru: "Что с этим делается" },
  seconds: { en: "For how long it lasted", ru: "Сколько секунд это длилось" },
  status: { en: "HTTP status of the answer", ru: "Статус HTTP ответа" },
  user: { en: "User id of the webhook", ru: "Идентификатор пользователя вебхука" },
  version: { en: "Version of the program", ru: "Версия программы" }
}

const words = {
  en: { titles: ["Event", "Level", "Meaning", "Fields", "Counted by"], fields: ["Field", "Meaning"], event: "event" },
  ru: { titles: ["Событие", "Уровень", "Смысл", "Поля", "Считается по"], fields: ["Поле", "Смысл"], event: "событию" }
} as const

const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
const table = (titles: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) =>
  [line(titles), line(titles.map(() => "---")), ...rows.map(line)].join("\n")

const code = (text: string) => `\`${text}\``
const codes = (texts: ReadonlyArray<string>) => texts.map(code).join(", ")

/** All events, and what their fields hold, as two Markdown tables. */
export const eventsTable = (language: Language): string => {
  const { titles, fields, event } = words[language]
  const rows = (Object.keys(events) as ReadonlyArray<Event>).map((name) => {
    const [level, text, own, repeating]: readonly [
      string,
      string,
      ReadonlyArray<string>,
      { readonly by: ReadonlyArray<string> }?
    ] = events[name]
    const counted = repeating === undefined ? "" : repeating.by.length === 0 ? event : codes(repeating.by)
    return [code(name), level.toLowerCase(), language === "en" ? text : meanings[name], codes(own), counted]
  })
  const meant = Object.entries(fieldMeanings).map(([field, meaning]) => [code(field), meaning[language]])
  return `${table(titles, rows)}\n\n${table(fields, meant)}`
}

const marks = /(?<=<!-- events -->\n)[^]*?(?=\n<!-- \/events -->)/

const pathOf = (language: Language) => fileURLToPath(new URL(`../${documents[language]}`, import.meta.url))

/** What stands between the marks `<!-- events -->` and `<!-- /events -->` of a document; undefined without them. */
export const eventsIn = (language: Language) => marks.exec(readFileSync(pathOf(language), "utf8"))?.[0]

if (import.meta.main) {
  if (process.argv[2] !== "--write") {
    console.error("usage: bun test/events-table.ts --write")
    process.exit(2)
  }
  for (const language of ["en", "ru"] as const) {
    const path = pathOf(language)
    const text = readFileSync(path, "utf8")
    if (!marks.test(text)) {
      console.error(`${documents[language]} has no <!-- events --> and <!-- /events --> on lines of their own`)
      process.exit(1)
    }
    writeFileSync(
      path,
      text.replace(marks, () => eventsTable(language))
    )
  }
}
