import {
  Context,
  Data,
  Duration,
  Effect,
  FileSystem,
  Layer,
  MutableRef,
  Redacted,
  Result,
  Runtime,
  Schema,
  SchemaTransformation
} from "effect"
import { X509Certificate } from "node:crypto"
import { isIPv4 } from "node:net"

/** One row of the table: all that a person may want to know of a setting, and how its text is read. */
interface Row<A> {
  readonly name: string
  /** Other spellings that are accepted; the first that is set wins. */
  readonly also?: ReadonlyArray<string>
  /** The text that stands for an absent setting. A row without it is required. */
  readonly standard?: string
  readonly unit?: keyof typeof units
  /** The value may hold a secret: it is never printed, and it may come from a file. */
  readonly secret?: true
  readonly schema: Schema.Codec<A, string>
  readonly expects: string
  /** A better explanation for a mistake that people really make. */
  readonly hint?: (text: string) => string | undefined
  readonly en: string
  readonly ru: string
}

const units = {
  calls: { en: "calls", ru: "вызовов" },
  messages: { en: "messages", ru: "сообщений" },
  s: { en: "s", ru: "с" },
  bytes: { en: "bytes", ru: "байт" }
}

const row = <A>(row: Row<A>): Row<A> => row

/** True for a host that never leaves this machine. */
export const isLoopback = (host: string) =>
  host === "localhost" || host === "[::1]" || (isIPv4(host) && host.startsWith("127."))

/** A / ? or # in a password ends what is read as the host: the rest of the password would become the vhost. */
const cutPassword = /^amqps?:\/\/[^/?#]*[/?#].*@/

const brokerUrl = Schema.RedactedFromValue(
  Schema.String.check(
    Schema.makeFilter((text) => {
      const url = URL.parse(text)
      const known = url?.protocol === "amqp:" || url?.protocol === "amqps:"
      return known && url.hostname !== "" && !cutPassword.test(text)
    })
  )
)

/** A user's number after /rest/: somebody pasted the address of a webhook. */
const webhook = /\/rest\/(?:api\/)?\d+(?:\/|$)/

const restUrl = Schema.URLFromString.check(
  Schema.makeFilter(
    (url) =>
      (url.protocol === "https:" || url.protocol === "http:") &&
      !webhook.test(url.pathname) &&
      url.username + url.password + url.search + url.hash === ""
  )
)

const whole = (minimum: number, maximum: number) =>
  Schema.FiniteFromString.check(Schema.isInt(), Schema.isBetween({ minimum, maximum }))

const seconds = (minimum: number, maximum: number) =>
  whole(minimum, maximum).pipe(
    Schema.decodeTo(
      Schema.Duration,
      SchemaTransformation.transform({ decode: Duration.seconds, encode: Duration.toSeconds })
    )
  )

/** Undefined where nothing is written. */
const secondsIfAny = (minimum: number, maximum: number) =>
  Schema.Union([
    Schema.Literal("").pipe(
      Schema.decodeTo(
        Schema.Undefined,
        SchemaTransformation.transform<undefined, "">({ decode: () => undefined, encode: () => "" })
      )
    ),
    seconds(minimum, maximum)
  ])

const yesNo = Schema.Literals(["yes", "no"]).pipe(
  Schema.decodeTo(
    Schema.Boolean,
    SchemaTransformation.transform({ decode: (word) => word === "yes", encode: (on) => (on ? "yes" : "no") })
  )
)

const names = Schema.String.pipe(
  Schema.decodeTo(
    Schema.Array(Schema.String),
    SchemaTransformation.transform<ReadonlyArray<string>, string>({
      decode: (text) =>
        text
          .split(",")
          .map((name) => name.trim())
          .filter((name) => name !== ""),
      encode: (list) => list.join(",")
    })
  )
)

/** How many requests a second a portal takes after how large a burst, or how to find out. */
export type Rate = "auto" | "off" | { readonly rate: number; readonly depth: number }

const rate = Schema.String.check(Schema.isPattern(/^(auto|off|[1-9]\d{0,3}\/[1-9]\d{0,4})$/)).pipe(
  Schema.decodeTo(
    Schema.Union([Schema.Literals(["auto", "off"]), Schema.Struct({ rate: Schema.Finite, depth: Schema.Finite })]),
    SchemaTransformation.transform<Rate, string>({
      decode: (text) => {
        if (text === "auto" || text === "off") return text
        const [rate, depth] = text.split("/")
        return { rate: Number(rate), depth: Number(depth) }
      },
      encode: (rate) => (typeof rate === "string" ? rate : `${rate.rate}/${rate.depth}`)
    })
  )
)

/** What a user knows of a method of his own: what to do when it is unknown whether it ran. */
export interface OwnRemedy {
  /** A star at the end covers any ending. */
  readonly method: string
  /** `again` and `tell`, or where it is looked up: the method that lists, and the fields that name what was made. */
  readonly remedy: "again" | "tell" | { readonly list: string; readonly fields: ReadonlyArray<string> }
}

const methodPattern = /^[A-Za-z0-9_.]+\*?$/
const listMethod = /^[A-Za-z0-9_.]+$/
const fieldName = /^\w+$/

/** One entry of B24RMQ_DOUBT, or what is wrong with it. */
const readOwnRemedy = (entry: string): OwnRemedy | string => {
  const [, method = "", remedy = ""] = /^([^=]*)=(.*)$/.exec(entry)?.map((part) => part.trim()) ?? []
  const shown = JSON.stringify(entry)
  if (!methodPattern.test(method)) return `${shown} does not begin with a method and =`
  if (remedy === "again" || remedy === "tell") return { method, remedy }
  const [word, list = "", names = "", ...more] = remedy.split(":").map((part) => part.trim())
  if (word !== "lookup") return `${shown} says neither again nor tell nor lookup:LIST:FIELD`
  if (!listMethod.test(list)) return `${shown} names no method that lists: lookup:LIST:FIELD`
  const fields = names.split(",").map((name) => name.trim())
  if (more.length > 0 || !fields.every((name) => fieldName.test(name)))
    return `${shown} names no fields: lookup:LIST:FIELD or lookup:LIST:FIELD,FIELD`
  return { method, remedy: { list, fields } }
}

const entriesIn = (text: string) =>
  text
    .split(";")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "")

/** What is wrong with the text of B24RMQ_DOUBT, or undefined. */
const faultOfDoubt = (text: string): string | undefined => {
  const seen = new Set<string>()
  for (const entry of entriesIn(text)) {
    const read = readOwnRemedy(entry)
    if (typeof read === "string") return read
    const name = read.method.toLowerCase()
    if (seen.has(name)) return `${JSON.stringify(read.method)} is there twice`
    seen.add(name)
  }
  return undefined
}

const writtenRemedy = ({ method, remedy }: OwnRemedy) =>
  `${method}=${typeof remedy === "string" ? remedy : `lookup:${remedy.list}:${remedy.fields.join(",")}`}`

const remedies = Schema.String.check(Schema.makeFilter((text) => faultOfDoubt(text) === undefined)).pipe(
  Schema.decodeTo(
    Schema.Array(
      Schema.Struct({
        method: Schema.String,
        remedy: Schema.Union([
          Schema.Literals(["again", "tell"]),
          Schema.Struct({ list: Schema.String, fields: Schema.Array(Schema.String) })
        ])
      })
    ),
    SchemaTransformation.transform<ReadonlyArray<OwnRemedy>, string>({
      decode: (text) =>
        entriesIn(text).flatMap((entry) => {
          const read = readOwnRemedy(entry)
          return typeof read === "string" ? [] : [read]
        }),
      encode: (list) => list.map(writtenRemedy).join(";")
    })
  )
)

// A queue name travels as an AMQP short string: 255 bytes at most.
const queueName = Schema.NonEmptyString.check(Schema.makeFilter((text) => Buffer.byteLength(text) <= 255))

const queueNames = Schema.String.pipe(
  Schema.decodeTo(
    Schema.NonEmptyArray(queueName),
    SchemaTransformation.transform<readonly [string, ...Array<string>], string>({
      decode: (text) => {
        const [first = "", ...rest] = text.split(",").map((name) => name.trim())
        return [first, ...rest]
      },
      encode: (list) => list.join(",")
    })
  )
)

/** `no`, `yes` for the usual name, or a name in which `{AMPQIN}` stands for the first queue of requests. */
const rejected = Schema.NonEmptyString.check(
  Schema.makeFilter((text) => !/[{}]/.test(text.replaceAll("{AMPQIN}", "")) && Buffer.byteLength(text) <= 255)
)

const nameOfRejected = (text: string, [first]: Values["ampqIn"]): string | undefined =>
  text === "no" ? undefined : (text === "yes" ? "{AMPQIN}.rejected" : text).replaceAll("{AMPQIN}", () => first)

const MiB = 1024 * 1024

/** Where the page listens. */
export interface HttpAddress {
  readonly host: string
  readonly port: number
}

const httpAddress = Schema.String.check(
  Schema.makeFilter((text) => {
    const url = URL.parse(`http://${text}`)
    return text === "" || (/^(?:\[[0-9a-fA-F:]+\]|[^:/?#@\s]+):\d{1,5}$/.test(text) && url !== null)
  })
).pipe(
  Schema.decodeTo(
    Schema.UndefinedOr(Schema.Struct({ host: Schema.String, port: Schema.Finite })),
    SchemaTransformation.transform<HttpAddress | undefined, string>({
      decode: (text) => {
        const colon = text.lastIndexOf(":")
        return text === "" ? undefined : { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) }
      },
      encode: (address) => (address === undefined ? "" : `${address.host}:${address.port}`)
    })
  )
)

/** `auto`, `off`, a file or a database. Bun takes what follows a ? in a file's name for options. */
const journal = /^(?:auto|off|\/[^?]*[^?/]|postgres(?:ql)?:\/\/[^/?#]+\/[^/?#]+(?:\?.*)?)$/

const table = {
  ampqUrl: row({
    name: "AMPQURL",
    also: ["AMQPURL"],
    secret: true,
    schema: brokerUrl,
    expects: "amqp://USER:PASSWORD@HOST:5672/VHOST or amqps://...",
    hint: (text) =>
      cutPassword.test(text) ? "inside user, password and vhost write / ? # @ % as %2F %3F %23 %40 %25" : undefined,
    en: "Address of RabbitMQ. `AMQPURL` is accepted too. Like `B24REST`, `B24RMQ_JOURNAL` and `HTTPS_PROXY` it may come from a file that `AMPQURL_FILE` names, or from a systemd credential of its name (`LoadCredential=`).",
    ru: "Адрес RabbitMQ. Имя `AMQPURL` тоже принимается. Как и `B24REST`, `B24RMQ_JOURNAL` и `HTTPS_PROXY`, может браться из файла, который называет `AMPQURL_FILE`, или из одноимённых учётных данных systemd (`LoadCredential=`)."
  }),
  b24Rest: row({
    name: "B24REST",
    secret: true,
    schema: restUrl,
    expects: "https://HOST/rest/ (or https://HOST/rest/api/ for REST 3.0)",
    hint: (text) =>
      webhook.test(text)
        ? "this is a whole webhook address: leave only the part up to /rest/; the user id and the token travel in the headers user and token of each message"
        : undefined,
    en: "REST address of the portal, without user and token, with or without the last slash.",
    ru: "Адрес REST портала без пользователя и токена, с последней косой чертой или без неё."
  }),
  ampqIn: row({
    name: "AMPQIN",
    standard: "bitrix24in",
    schema: queueNames,
    expects: "the name of a queue, 255 bytes at most, or several separated by commas",
    en: "Queue that requests come from, or several separated by commas: they are served in turn.",
    ru: "Очередь, из которой берутся запросы, или несколько через запятую: они обслуживаются по очереди."
  }),
  ampqOut: row({
    name: "AMPQOUT",
    standard: "bitrix24out",
    schema: queueName,
    expects: "the name of a queue, 255 bytes at most",
    en: "Queue that answers go to.",
    ru: "Очередь, в которую кладутся ответы."
  }),
  rejected: row({
    name: "B24RMQ_REJECTED",
    standard: "no",
    schema: rejected,
    expects: "yes, no, or the name of a queue, such as {AMPQIN}.rejected",
    en: "Queue in which requests are kept that were answered `rejected`, or refused because of their webhook, so that an operator can replay them (`B24RMQ rejected`). `yes` is `{AMPQIN}.rejected`; in a name, `{AMPQIN}` stands for the first queue of requests.",
    ru: "Очередь, в которой сохраняются запросы, получившие ответ `rejected` или отказ из-за своего вебхука, чтобы оператор мог отправить их снова (`B24RMQ rejected`). `yes` значит `{AMPQIN}.rejected`; в имени `{AMPQIN}` заменяет первую очередь запросов."
  }),
  declare: row({
    name: "B24RMQ_DECLARE",
    standard: "yes",
    schema: yesNo,
    expects: "yes or no",
    en: "Declare a missing queue (durable). Queues that exist are never changed.",
    ru: "Создавать недостающую очередь (durable). Существующие очереди не меняются."
  }),
  concurrency: row({
    name: "B24RMQ_CONCURRENCY",
    standard: "16",
    unit: "calls",
    schema: whole(1, 1000),
    expects: "a whole number from 1 to 1000",
    en: "Calls to the portal in flight at most. Halved by itself while the portal fails, then raised again.",
    ru: "Сколько вызовов портала идёт одновременно, самое большее. При сбоях портала само уменьшается вдвое, затем растёт обратно."
  }),
  rate: row({
    name: "B24RMQ_RATE",
    standard: "auto",
    schema: rate,
    expects: "auto, off, or RATE/BURST such as 2/50",
    en: "How many requests the portal takes: `2/50` is the cloud, `5/250` its Enterprise plan. `auto` knows cloud portals by their domain; of others it learns from their first refusal.",
    ru: "Сколько запросов принимает портал: `2/50` это облако, `5/250` его тариф «Энтерпрайз». `auto` узнаёт облачные порталы по домену, а о других узнаёт из их первого отказа."
  }),
  pack: row({
    name: "B24RMQ_PACK",
    standard: "all",
    schema: Schema.Literals(["reads", "all", "off"]),
    expects: "reads, all or off",
    en: "Which requests may travel together in one `batch` when they have to wait anyway: `all`, only `reads`, or none (`off`). Each gets the answer that it would have got alone. Of a batch that is cut off all writes are in doubt, and what became of each is found out by itself. With `B24RMQ_JOURNAL=off` the default is `reads`: after a crash every write that was under way is executed again, and a batch holds up to 50.",
    ru: "Какие запросы могут ехать вместе в одном `batch`, если им всё равно приходится ждать: все (`all`), только чтения (`reads`) или никакие (`off`). Каждый получает тот же ответ, что получил бы один. Если `batch` оборвался, под сомнением все его записи, и судьба каждой выясняется отдельно. При `B24RMQ_JOURNAL=off` по умолчанию `reads`: после сбоя каждая начатая запись выполнится ещё раз, а в `batch` их до 50."
  }),
  prefetch: row({
    name: "B24RMQ_PREFETCH",
    standard: "1000",
    unit: "messages",
    schema: whole(1, 1000),
    expects: "a whole number from 1 to 1000",
    en: "Requests taken from the queue and not yet answered, at most.",
    ru: "Сколько запросов взято из очереди и ещё не отвечено, самое большее."
  }),
  portalLimit: row({
    name: "B24RMQ_PORTAL_LIMIT",
    standard: "60",
    unit: "s",
    schema: seconds(1, 3600),
    expects: "a whole number of seconds from 1 to 3600",
    en: "How long the portal itself runs a request at most (cloud: 60). The bridge waits 10 s longer, so that a slow success is not taken for a failure.",
    ru: "Сколько самое большее сам портал выполняет запрос (облако: 60). Мост ждёт на 10 с дольше, чтобы медленный успех не посчитать неудачей."
  }),
  hold: row({
    name: "B24RMQ_HOLD",
    standard: "1200",
    unit: "s",
    schema: seconds(1, 86_400),
    expects: "a whole number of seconds from 1 to 86400",
    en: "How long requests are held while the portal is away, before they are returned to the queue. Keep it below the broker's acknowledgement limit (`consumer_timeout`, 1800 s by default).",
    ru: "Сколько запросы удерживаются, пока портал недоступен, прежде чем вернуться в очередь. Должно быть меньше предела брокера на подтверждение (`consumer_timeout`, обычно 1800 с)."
  }),
  maxAge: row({
    name: "B24RMQ_MAX_AGE",
    standard: "",
    unit: "s",
    schema: secondsIfAny(1, 31_536_000),
    expects: "a whole number of seconds from 1 to 31536000, or nothing",
    en: "How old a request may be when it leaves for the portal, counted from its `timestamp`, else from when the bridge saw it first. An older one is not executed any more, and is answered `B24RMQ_EXPIRED`.",
    ru: "Каким самое большее может быть возраст запроса, когда он уходит на портал; считается от его `timestamp`, а без него с тех пор, как мост увидел его впервые. Более старый уже не выполняется, на него приходит `B24RMQ_EXPIRED`."
  }),
  drain: row({
    name: "B24RMQ_DRAIN",
    standard: "75",
    unit: "s",
    schema: seconds(0, 3600),
    expects: "a whole number of seconds from 0 to 3600",
    en: "How long a stop waits for calls in flight. Keep it below `TimeoutStopSec` of systemd.",
    ru: "Сколько остановка ждёт вызовы, которые уже идут. Должно быть меньше `TimeoutStopSec` systemd."
  }),
  maxRequest: row({
    name: "B24RMQ_MAX_REQUEST",
    standard: String(15 * MiB),
    unit: "bytes",
    schema: whole(1024, 128 * MiB),
    expects: "a whole number of bytes from 1024 to 134217728",
    en: "Longest body of a request.",
    ru: "Самое длинное тело запроса."
  }),
  maxAnswer: row({
    name: "B24RMQ_MAX_ANSWER",
    standard: String(15 * MiB),
    unit: "bytes",
    schema: whole(1024, 128 * MiB),
    expects: "a whole number of bytes from 1024 to 134217728",
    en: "Longest answer of the portal that is passed on. RabbitMQ 4 refuses messages above 16 MiB.",
    ru: "Самый длинный ответ портала, который передаётся дальше. RabbitMQ 4 отвергает сообщения больше 16 МиБ."
  }),
  ownReads: row({
    name: "B24RMQ_READS",
    standard: "",
    schema: names.check(Schema.makeFilter((list) => list.every((name) => /^[\w.]+\*?$/.test(name)))),
    expects: "method names separated by commas; a star at the end stands for any ending",
    en: "Self-written methods that only read, for example `erp.order.find,erp.report.*`: they may be repeated when it is unknown whether they ran.",
    ru: "Собственные методы, которые только читают, например `erp.order.find,erp.report.*`: их можно повторить, когда неизвестно, выполнились ли они."
  }),
  doubt: row({
    name: "B24RMQ_DOUBT",
    standard: "",
    schema: remedies,
    expects:
      "METHOD=again, METHOD=tell or METHOD=lookup:LIST:FIELD, several separated by semicolons; a star at the end of METHOD stands for any ending",
    hint: faultOfDoubt,
    en: "What to do with writes of which it is unknown whether they ran, by method, for example `erp.order.add=lookup:erp.order.list:ORIGIN_ID; erp.order.sync=again; crm.lead.add=tell`. It goes before the table in docs/doubt.md; the first entry that fits counts.",
    ru: "Что делать с записями, о которых неизвестно, выполнились ли они, по методам, например `erp.order.add=lookup:erp.order.list:ORIGIN_ID; erp.order.sync=again; crm.lead.add=tell`. Важнее таблицы в docs/doubt.ru.md; действует первая подходящая строка."
  }),
  stamp: row({
    name: "B24RMQ_STAMP",
    standard: "no",
    schema: yesNo,
    expects: "yes or no",
    en: "Give leads, deals, contacts, companies, smart process items, invoices and activities that are created without an origin id one of the bridge, so that they can be found when no answer comes. Needs a `message_id`.",
    ru: "Давать лидам, сделкам, контактам, компаниям, элементам смарт-процессов, счетам и делам, которые создаются без внешнего кода, код моста, чтобы их можно было найти, когда ответ не пришёл. Нужен `message_id`."
  }),
  journal: row({
    name: "B24RMQ_JOURNAL",
    standard: "auto",
    secret: true,
    schema: Schema.RedactedFromValue(Schema.String.check(Schema.isPattern(journal))),
    expects: "auto, off, the path of a file beginning with /, or postgres://USER:PASSWORD@HOST:5432/DATABASE",
    en: "Where it is kept which writes were sent and what was answered, so that no write is done twice. `auto` is a file (SQLite) in `STATE_DIRECTORY`, else `/var/lib/b24rmq`, else `~/.local/state/b24rmq`, named by vhost and `AMPQIN`; whoever changes these keeps the memory by naming the old file. `postgres://...` (14 or later, reached directly) is for two bridges of which one stands by. `off` remembers until the process ends: after that a write may be done twice.",
    ru: "Где хранится, какие записи были отправлены и что на них ответили, чтобы ни одна не выполнилась дважды. `auto` значит файл (SQLite) в `STATE_DIRECTORY`, иначе в `/var/lib/b24rmq`, иначе в `~/.local/state/b24rmq`, названный по vhost и `AMPQIN`; кто их меняет, сохранит память, указав прежний файл. `postgres://...` (14 или новее, соединение прямое) нужен двум мостам, один из которых ждёт в запасе. `off` помнит только до конца процесса: после него запись может выполниться дважды."
  }),
  journalKeep: row({
    name: "B24RMQ_JOURNAL_KEEP",
    standard: "86400",
    unit: "s",
    schema: seconds(60, 31_536_000),
    expects: "a whole number of seconds from 60 to 31536000",
    en: "How long an answer is remembered after the broker took it. The same message that comes later than that, published again by the producer or given back by a broker that was killed, is executed again.",
    ru: "Сколько ответ помнится после того, как брокер его принял. То же сообщение, пришедшее позже (опубликованное ещё раз или возвращённое брокером после сбоя), выполнится ещё раз."
  }),
  journalMax: row({
    name: "B24RMQ_JOURNAL_MAX",
    standard: String(1024 * MiB),
    unit: "bytes",
    schema: whole(MiB, 1024 * 1024 * MiB),
    expects: "a whole number of bytes from 1048576 to 1099511627776",
    en: "How large the journal grows, about. Beyond it the answers that were taken longest ago are forgotten before their time, which shortens `B24RMQ_JOURNAL_KEEP`. What is under way, in doubt or not yet taken by the broker is never forgotten for it: when nothing else is left, no more writes are sent.",
    ru: "До какого примерно размера растёт журнал. Сверх него раньше срока забываются ответы, принятые брокером раньше всех, то есть `B24RMQ_JOURNAL_KEEP` сокращается. То, что выполняется, осталось в сомнении или ещё не принято брокером, ради этого не забывается никогда: когда больше ничего не осталось, записи не отправляются."
  }),
  http: row({
    name: "B24RMQ_HTTP",
    standard: "",
    schema: httpAddress,
    expects: "HOST:PORT, such as 127.0.0.1:8024",
    en: "Where the status page, `/status`, `/metrics`, `/health` and `/ready` are served, such as `127.0.0.1:8024`; nothing can be changed there. An address that others can reach needs `B24RMQ_HTTP_PASSWORD_FILE`. Commands do not need it: they use a socket.",
    ru: "Где отдаются страница состояния, `/status`, `/metrics`, `/health` и `/ready`, например `127.0.0.1:8024`; изменить там ничего нельзя. Адресу, доступному другим, нужен `B24RMQ_HTTP_PASSWORD_FILE`. Командам он не нужен: они ходят через сокет."
  }),
  httpPassword: row({
    name: "B24RMQ_HTTP_PASSWORD",
    standard: "",
    secret: true,
    schema: Schema.RedactedFromValue(Schema.String),
    expects: "a password",
    en: "Password for `B24RMQ_HTTP` (basic authentication, any user name), better from a file that `B24RMQ_HTTP_PASSWORD_FILE` names. It travels in the clear unless a proxy with TLS stands before it.",
    ru: "Пароль для `B24RMQ_HTTP` (базовая аутентификация, имя пользователя любое), лучше из файла, который называет `B24RMQ_HTTP_PASSWORD_FILE`. Передаётся открытым текстом, если перед ним нет прокси с TLS."
  }),
  ca: row({
    name: "B24RMQ_CA",
    standard: "",
    schema: Schema.String,
    expects: "a readable PEM file",
    en: "PEM file with further certificate authorities, trusted for the broker and the portal besides the usual ones.",
    ru: "Файл PEM с дополнительными удостоверяющими центрами, которым доверяют и для брокера, и для портала наряду с обычными."
  }),
  allowHttp: row({
    name: "B24RMQ_ALLOW_HTTP",
    standard: "no",
    schema: yesNo,
    expects: "yes or no",
    en: "Allow `http://` for a portal that is not on this machine: tokens then travel in the clear.",
    ru: "Разрешить `http://` для портала не на этой машине: токены тогда идут открытым текстом."
  }),
  proxy: row({
    name: "HTTPS_PROXY",
    also: ["https_proxy"],
    standard: "",
    secret: true,
    schema: Schema.RedactedFromValue(
      Schema.String.check(Schema.makeFilter((text) => text === "" || /^https?:$/.test(URL.parse(text)?.protocol ?? "")))
    ),
    expects: "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT",
    en: "Proxy for calls to a portal on `https://`. The connection to RabbitMQ is always direct.",
    ru: "Прокси для вызовов портала по `https://`. Соединение с RabbitMQ всегда прямое."
  }),
  noProxy: row({
    name: "NO_PROXY",
    also: ["no_proxy"],
    standard: "",
    schema: names,
    expects: "host names separated by commas",
    en: "Hosts that are reached without the proxy; `example.com` and `.example.com` cover subdomains, `*` all.",
    ru: "Узлы, к которым идут без прокси; `example.com` и `.example.com` охватывают поддомены, `*` все."
  }),
  log: row({
    name: "B24RMQ_LOG",
    standard: "auto",
    schema: Schema.Literals(["auto", "logfmt", "json"]),
    expects: "auto, logfmt or json",
    en: "Form of the log: `auto` is logfmt on a terminal, JSON elsewhere.",
    ru: "Вид журнала: `auto` значит logfmt на терминале и JSON в остальных случаях."
  }),
  logLevel: row({
    name: "B24RMQ_LOG_LEVEL",
    standard: "info",
    schema: Schema.Literals(["debug", "info", "warn", "error"]),
    expects: "debug, info, warn or error",
    en: "`debug` adds a line per request.",
    ru: "`debug` добавляет строку на каждый запрос."
  })
}

type Table = typeof table
type Values = { readonly [K in keyof Table]: Table[K] extends Row<infer A> ? A : never }

/** What may change while the bridge runs; read at each use, never copied. */
export interface Live {
  readonly rate: Rate
  readonly concurrency: number
  readonly pack: Values["pack"]
  readonly logLevel: Values["logLevel"]
}

/** The settings as read at the start. */
export class Settings extends Context.Service<
  Settings,
  Omit<Values, "rejected"> & {
    /** The queue in which requests are kept that could not be sent, or undefined. */
    readonly rejected: string | undefined
    /** PEM texts of the further certificate authorities. */
    readonly authorities: ReadonlyArray<string>
    /** Folders for what has to outlive the process, the first that can be written is meant. */
    readonly stateFolders: ReadonlyArray<string>
    /** Folders for the socket, the first that can be written is meant. */
    readonly runtimeFolders: ReadonlyArray<string>
    readonly live: MutableRef.MutableRef<Live>
  }
>()("b24rmq/Settings") {
  /** Reads the environment of this process. */
  static readonly layer = Layer.effect(
    Settings,
    Effect.suspend(() => readInstead(process.env))
  )

  /** Reads an environment that was put together. */
  static readonly layerOf = (environment: Environment) => Layer.effect(Settings, readInstead(environment))
}

/** The environment of this process, for those who add to it. */
export const environment: Effect.Effect<Environment> = Effect.sync(() => ({ ...process.env }))

/** Reads the settings. From then on they alone decide who goes through a proxy. */
const readInstead = (environment: Environment) => Effect.tap(readSettings(environment), () => Effect.sync(hideProxies))

/** `fetch` on Bun obeys these by itself, even towards this machine. */
const hideProxies = () => {
  for (const name of ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"]) {
    delete process.env[name]
    delete process.env[name.toLowerCase()]
  }
}

/** One or more settings are missing or wrong; `problems` has a line for each, without secrets. */
export class SettingsWrong extends Data.TaggedError("SettingsWrong")<{ readonly problems: ReadonlyArray<string> }> {
  /** EX_CONFIG of sysexits.h: systemd is told not to start again on it. */
  override readonly [Runtime.errorExitCode] = 78
  /** Whoever runs the program prints the lines; they need no stack beside them. */
  override readonly [Runtime.errorReported] = false
  override get message() {
    return this.problems.join("\n")
  }
}

export type Environment = Readonly<Record<string, string | undefined>>

/** The text of a setting, and what a person has to correct when it is wrong: a variable or a file. */
type Found = { readonly source: string; readonly text: string }

const textOfFile = Effect.fnUntraced(function* (source: string, file: string) {
  const files = yield* FileSystem.FileSystem
  const text = yield* files
    .readFileString(file)
    .pipe(Effect.mapError(() => `${source}: the file ${file} cannot be read; check that it exists, and its rights`))
  if (text.trim() === "") return yield* Effect.fail(`${source}: the file ${file} is empty`)
  return { source, text: text.trim() }
})

/**
 * Where a setting's text comes from: the variable, else the file that NAME_FILE names, else a credential that systemd
 * laid down for this service. An empty variable counts as absent. Fails with a line for the person.
 */
const look = Effect.fnUntraced(function* (
  env: Environment,
  row: Row<unknown>
): Effect.fn.Return<Found | undefined, string, FileSystem.FileSystem> {
  const files = yield* FileSystem.FileSystem
  for (const name of [row.name, ...(row.also ?? [])]) {
    const text = env[name]
    if (text) return { source: name, text }
    if (row.secret === undefined) continue
    const file = env[`${name}_FILE`]
    if (file) return yield* textOfFile(`${name}_FILE`, file)
    const credential = env.CREDENTIALS_DIRECTORY && `${env.CREDENTIALS_DIRECTORY}/${name}`
    if (credential && (yield* files.exists(credential).pipe(Effect.orElseSucceed(() => false)))) {
      return yield* textOfFile(name, credential)
    }
  }
  return undefined
})

/** Of a text that may hold a secret, only how it begins. */
const beginning = (text: string) => {
  const scheme = /^[a-z][a-z0-9+.-]{0,9}:\/\//i.exec(text)?.[0]
  return scheme === undefined
    ? "a text that does not begin with a scheme such as https:// (it may be secret and is not shown)"
    : `${scheme}... (the rest may be secret and is not shown)`
}

const readRow = Effect.fnUntraced(function* (env: Environment, row: Row<unknown>) {
  const found = yield* look(env, row)
  const text = found?.text ?? row.standard
  if (text === undefined) return yield* Effect.fail(`${row.name}: not set; expected ${row.expects}`)
  const decoded = Schema.decodeResult(row.schema)(text)
  if (Result.isSuccess(decoded)) return decoded.success
  const shown = row.secret ? beginning(text) : JSON.stringify(text)
  const hint = row.hint?.(text)
  return yield* Effect.fail(
    `${found?.source ?? row.name}: read ${shown}; expected ${row.expects}${hint === undefined ? "" : `; ${hint}`}`
  )
})

const holdsCertificates = (pem: string) => {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g) ?? []
  try {
    return blocks.map((block) => new X509Certificate(block)).length > 0
  } catch {
    return false
  }
}

const readAuthorities = Effect.fnUntraced(function* (path: string) {
  if (path === "") return []
  const files = yield* FileSystem.FileSystem
  const pem = yield* files.readFileString(path).pipe(Effect.orElseSucceed(() => ""))
  if (holdsCertificates(pem)) return [pem]
  return yield* Effect.fail(`B24RMQ_CA: read ${JSON.stringify(path)}; expected a readable PEM file with certificates`)
})

/** The folder that systemd gave this service (the first, where the unit names several), else the system's, else one's own. */
const stateFolders = (env: Environment): ReadonlyArray<string> => {
  const [given] = env.STATE_DIRECTORY?.split(":") ?? []
  if (given) return [given]
  const own = env.XDG_STATE_HOME || (env.HOME && `${env.HOME}/.local/state`)
  return ["/var/lib/b24rmq", ...(own ? [`${own}/b24rmq`] : [])]
}

/** As above, for what goes with the process. */
const runtimeFolders = (env: Environment): ReadonlyArray<string> => {
  const [given] = env.RUNTIME_DIRECTORY?.split(":") ?? []
  if (given) return [given]
  return ["/run/b24rmq", ...(env.XDG_RUNTIME_DIR ? [`${env.XDG_RUNTIME_DIR}/b24rmq`] : [])]
}

/** Without a journal a crash repeats all writes that are under way: they are not made many unless somebody asks for it. */
const packOf = (env: Environment, { pack, journal }: Pick<Values, "pack" | "journal">): Values["pack"] =>
  !env[table.pack.name] && Redacted.value(journal) === "off" ? "reads" : pack

/** Set as a path: as an address of its own, one that begins with two slashes would name another host. */
const withLastSlash = (url: URL): URL => {
  const ended = new URL(url)
  ended.pathname = url.pathname.replace(/\/*$/, "/")
  return ended
}

/** Problems between settings. Those that are wrong by themselves are not there. */
const together = (values: Partial<Values>): ReadonlyArray<string> => {
  const { ampqIn, ampqOut, b24Rest, allowHttp, http, httpPassword } = values
  const problems: Array<string> = []
  const rejected = ampqIn && values.rejected && nameOfRejected(values.rejected, ampqIn)
  if (
    rejected &&
    (Buffer.byteLength(rejected) > 255 || [...ampqIn, ampqOut, `${ampqIn[0]}.parked`].includes(rejected))
  ) {
    problems.push(
      `B24RMQ_REJECTED: read ${JSON.stringify(values.rejected)}, which comes to ${JSON.stringify(rejected)}; expected a queue of its own, 255 bytes at most: not one of AMPQIN, not AMPQOUT, not the queue of parked requests`
    )
  }
  if (ampqOut !== undefined && ampqIn?.includes(ampqOut)) {
    problems.push(
      `AMPQOUT: read ${JSON.stringify(ampqOut)}, which AMPQIN names, too; expected another queue, or each answer would come back as a request`
    )
  }
  if (ampqIn !== undefined && new Set(ampqIn).size < ampqIn.length) {
    problems.push(
      `AMPQIN: read ${JSON.stringify(ampqIn.join(","))}, which names a queue twice; expected each queue once`
    )
  }
  if (b24Rest?.protocol === "http:" && !isLoopback(b24Rest.hostname) && allowHttp === false) {
    problems.push(
      `B24REST: read an http:// address of ${b24Rest.hostname}; expected https://, or tokens would travel in the clear; B24RMQ_ALLOW_HTTP=yes allows it all the same`
    )
  }
  if (
    http !== undefined &&
    !isLoopback(http.host) &&
    httpPassword !== undefined &&
    Redacted.value(httpPassword) === ""
  ) {
    problems.push(
      `B24RMQ_HTTP: read ${JSON.stringify(`${http.host}:${http.port}`)}, which others can reach; expected an address of this machine such as 127.0.0.1:${http.port}, or B24RMQ_HTTP_PASSWORD_FILE with a password`
    )
  }
  return problems
}

/** Reads every setting of the table from an environment; fails with all problems at once. */
export const readSettings = Effect.fnUntraced(function* (
  env: Environment
): Effect.fn.Return<Settings["Service"], SettingsWrong, FileSystem.FileSystem> {
  const problems: Array<string> = []
  const orNote = <A, R>(reading: Effect.Effect<A, string, R>) =>
    Effect.catch(reading, (problem) => Effect.sync(() => void problems.push(problem)))
  const read: Partial<Record<keyof Table, unknown>> = {}
  for (const [key, row] of Object.entries(table)) {
    read[key as keyof Table] = yield* orNote(readRow(env, row as Row<unknown>))
  }
  const values = read as Partial<Values>
  const authorities = yield* orNote(readAuthorities(values.ca ?? ""))
  problems.push(...together(values))
  if (problems.length > 0) return yield* new SettingsWrong({ problems })
  const { b24Rest, rejected, ...rest } = values as Values
  const pack = packOf(env, rest)
  return {
    ...rest,
    pack,
    rejected: nameOfRejected(rejected, rest.ampqIn),
    b24Rest: withLastSlash(b24Rest),
    authorities: authorities ?? [],
    stateFolders: stateFolders(env),
    runtimeFolders: runtimeFolders(env),
    live: MutableRef.make<Live>({
      rate: rest.rate,
      concurrency: rest.concurrency,
      pack,
      logLevel: rest.logLevel
    })
  }
})

/** The settings that may change while the bridge runs. */
const changeable = {
  rate: table.rate,
  concurrency: table.concurrency,
  pack: table.pack,
  logLevel: table.logLevel
} satisfies { readonly [K in keyof Live]: Row<Live[K]> }

/** `B24RMQ_LOG_LEVEL`, and shorter `log-level`. */
const shortName = ({ name }: Row<unknown>) =>
  name
    .replace(/^B24RMQ_/, "")
    .replaceAll("_", "-")
    .toLowerCase()

/** Changes a setting that may change while the bridge runs. Fails with a line for the person. */
export const change = (
  live: MutableRef.MutableRef<Live>,
  name: string,
  text: string
): Result.Result<string, string> => {
  const rows = Object.entries(changeable) as ReadonlyArray<readonly [keyof Live, Row<unknown>]>
  const wanted = name.toLowerCase().replaceAll("_", "-")
  const found = rows.find(([, row]) => wanted === shortName(row) || name === row.name)
  if (found === undefined) {
    const names = rows.map(([, row]) => shortName(row)).join(", ")
    return Result.fail(`${name}: it cannot be changed while the bridge runs; expected one of ${names}`)
  }
  const [key, row] = found
  const decoded = Schema.decodeResult(row.schema)(text)
  if (Result.isFailure(decoded)) {
    return Result.fail(`${row.name}: read ${JSON.stringify(text)}; expected ${row.expects}`)
  }
  MutableRef.update(live, (before) => ({ ...before, [key]: decoded.success }))
  return Result.succeed(row.name)
}

/** Every setting and its value as text. Of what may be secret only whether it is set, and what parts of it are not. */
export const settingsAsText = (settings: Settings["Service"]): ReadonlyArray<readonly [name: string, text: string]> =>
  Object.entries(table).map(([key, row]: readonly [string, Row<unknown>]) => {
    const value: unknown = { ...settings, ...MutableRef.get(settings.live) }[key as keyof Table]
    if (key === "b24Rest") return [row.name, settings.b24Rest.href]
    if (key === "httpPassword") return [row.name, textIn(value) === "" ? "" : hidden]
    if (key === "rejected") return [row.name, settings.rejected ?? "no"]
    if (row.secret) return [row.name, addressAsText(value)]
    return [row.name, Result.getOrElse(Schema.encodeResult(row.schema)(value), () => "")]
  })

const hidden = "(set, not shown)"

const textIn = (value: unknown) => (Redacted.isRedacted(value) ? String(Redacted.value(value)) : "")

/** An address without its user, its password and what follows a question mark; a path as it is. */
const addressAsText = (value: unknown) => {
  const text = textIn(value)
  const url = URL.parse(text)
  if (url?.host) return `${url.protocol}//${url.host}${url.pathname}`
  return text === "" || text === "auto" || text === "off" || text.startsWith("/") ? text : hidden
}

/** Where a bridge listens with the environment that a command was given; only its own settings are looked at. */
export const socketWanted = Effect.fnUntraced(function* (env: Environment) {
  const url = yield* Effect.orElseSucceed(look(env, table.ampqUrl), () => undefined)
  const queues = env.AMPQIN ?? table.ampqIn.standard ?? ""
  const ampqIn = Result.getOrUndefined(Schema.decodeResult(table.ampqIn.schema)(queues))
  return {
    folders: runtimeFolders(env),
    bridge: url === undefined || ampqIn === undefined ? undefined : { ampqUrl: Redacted.make(url.text), ampqIn }
  }
})

/** The table as a person reads it: in `--help`, and in the README of either language. */
export const describeSettings = (language: "en" | "ru") =>
  Object.values(table).map((row: Row<unknown>) => ({
    name: row.name,
    standard: row.standard,
    unit: row.unit && units[row.unit][language],
    meaning: row[language]
  }))
