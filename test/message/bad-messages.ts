import { createHash } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import type { Asked } from "../rig/producer.ts"

/** A message that a producer should not send, or hardly ever does, and what becomes of it. */
export interface Odd {
  readonly en: string
  readonly ru: string
  readonly outcome: "done" | "rejected"
  /** The error code of the answer. */
  readonly code?: string
  readonly note?: { readonly en: string; readonly ru: string }
  readonly asked: Asked
  /** What the portal gets of a message that is sent. */
  readonly body?: Buffer
  /** The method that is called, where it is not the one of `asked`. */
  readonly calls?: string
  /** The answer has no message_id. */
  readonly nameless?: true
  /** Sent only so often: it is large. */
  readonly times?: number
}

const MiB = 1024 * 1024

/** Answers what came over the wire: target, headers, length and digest of the body. */
export const rawMethod = "sandbox.raw"

/** A body with this in it is answered with more than may be passed on. */
export const hugeAnswer = "an answer of 16 MiB"

/** In the bytes of a connection these become the real thing: the client library writes no name twice, and only UTF-8. */
const disguises = [
  ["methoX", "method"],
  ["useX", "user"],
  ["tokeX", "token"],
  ["\u0004deepx", "\u0004deepF"],
  ["Y".repeat(255), "\u00ff".repeat(255)]
] as const

/** The real bytes of what was written in disguise; of the same length, so that every frame stays whole. */
export const undisguised = (bytes: Uint8Array) =>
  Buffer.from(
    disguises.reduce((text, [from, to]) => text.replaceAll(from, to), Buffer.from(bytes).toString("latin1")),
    "latin1"
  )

/** A header table in which each table holds but one other, as bytes: names of one letter, seven bytes a level. */
const nestedTables = (levels: number) => {
  const table = Buffer.alloc(7 * levels)
  for (let level = 0; level < levels; level++) {
    const at = 7 * level
    table.write(`\u0001a${level === levels - 1 ? "x" : "F"}`, at, "latin1")
    table.writeUInt32BE(7 * (levels - 1 - level), at + 3)
  }
  return table
}

const json = Buffer.from('{"a":"я"}')
const inBody = (...parts: ReadonlyArray<string | ReadonlyArray<number>>) =>
  Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.from(part))))

const done = (en: string, ru: string, asked: Asked, body: Buffer = json, more: Partial<Odd> = {}): Odd => ({
  en,
  ru,
  outcome: "done",
  asked: { method: rawMethod, params: json, ...asked },
  body,
  ...more
})

const rejected = (code: string, en: string, ru: string, asked: Asked, more: Partial<Odd> = {}): Odd => ({
  en,
  ru,
  outcome: "rejected",
  code: `B24RMQ_${code}`,
  asked: { method: rawMethod, params: json, ...asked },
  ...more
})

const note = (en: string, ru: string) => ({ note: { en, ru } })
const asEmpty = note("called with `{}`", "вызван с `{}`")
const untouched = note("passed on byte for byte", "передано байт в байт")
const ignored = note("the header is ignored", "заголовок не учитывается")

const large = Buffer.from(JSON.stringify({ a: "x".repeat(14 * MiB) }))

/** Texts that must not get into an address, for each of the three headers. */
const dangers = [
  ["`../../../admin`", "../../../admin"],
  ["`..`", ".."],
  ["with CR LF", "a\r\nHost: b", "с CR LF"],
  ["with `?`", "user.get?auth=x", "с `?`"],
  ["with `#`", "user.get#x", "с `#`"],
  ["`%2e%2e`", "%2e%2e"],
  ["with a space", "user get", "с пробелом"],
  ["empty", "", "пустой"],
  ["in Cyrillic letters", "метод", "кириллицей"]
] as const

const inHeader = (name: "method" | "user" | "token"): ReadonlyArray<Odd> =>
  dangers.map(([en, text, ru = en]) =>
    rejected(`BAD_${name.toUpperCase()}`, `\`${name}\` ${en}`, `\`${name}\` ${ru}`, { [name]: text })
  )

const odd: ReadonlyArray<Odd> = [
  done("empty body", "пустое тело", { params: Buffer.alloc(0) }, Buffer.from("{}"), asEmpty),
  done("body `null`", "тело `null`", { params: "null" }, Buffer.from("null"), untouched),
  done(
    "JSON with a byte order mark, as 1C writes it",
    "JSON с меткой порядка байтов (BOM), как пишет 1С",
    { params: inBody([0xef, 0xbb, 0xbf], '{"a":"я"}') },
    json,
    note("the mark is taken off", "метка снимается")
  ),
  done("a byte order mark alone", "одна метка BOM", { params: inBody([0xef, 0xbb, 0xbf]) }, Buffer.from("{}"), asEmpty),
  done("body of 14 MiB", "тело 14 МиБ", { params: large }, large, { ...untouched, times: 2 }),
  done(
    "key `__proto__`, repeated keys, numbers of 23 digits",
    "ключ `__proto__`, повторные ключи, числа из 23 цифр",
    { params: '{"__proto__":{"b":1},"a":1,"a":12345678901234567890123}' },
    Buffer.from('{"__proto__":{"b":1},"a":1,"a":12345678901234567890123}'),
    untouched
  ),
  done(
    "511 levels of lists",
    "511 уровней списков",
    { params: "[".repeat(511) + "]".repeat(511) },
    Buffer.from("[".repeat(511) + "]".repeat(511)),
    untouched
  ),
  done(
    "`content_type` text/plain, or any other",
    "`content_type` text/plain или любой другой",
    { properties: { contentType: "text/plain", contentEncoding: "latin1" } },
    json,
    note("sent as `application/json`", "отправляется как `application/json`")
  ),
  done("`user` as a number, `token` and `method` as bytes", "`user` числом, `token` и `method` байтами", {
    method: Buffer.from(rawMethod),
    user: 1,
    token: Buffer.from("secret0token")
  }),
  done("`user` as int64", "`user` типа int64", { user: { "!": "int64", value: 1 } }),
  done(
    "60 KiB of other headers",
    "60 КиБ других заголовков",
    { headers: { padding: "x".repeat(60 * 1024) } },
    json,
    ignored
  ),
  done(
    "other headers of every type, nested",
    "другие заголовки всех типов, вложенные",
    { headers: { list: [1, null, [true, { a: 1.5 }]], time: { "!": "timestamp", value: 2 ** 52 } } },
    json,
    ignored
  ),
  done(
    "a header of 8,000 nested tables",
    "заголовок из 8000 вложенных таблиц",
    { headers: { deep: nestedTables(8_000) } },
    json,
    ignored
  ),
  done(
    "a header `__proto__`",
    "заголовок `__proto__`",
    { headers: { ["__proto__"]: { method: "a.b" } } },
    json,
    ignored
  ),
  done("`method` repeated", "`method` дважды", { method: "../a", headers: { methoX: rawMethod } }, json, {
    ...note("the last one counts", "учитывается последний"),
    calls: rawMethod
  }),
  done(
    "`user` and `token` repeated",
    "`user` и `token` дважды",
    { user: "x", token: "-", headers: { useX: "1", tokeX: "secret0token" } },
    json,
    note("the last ones count", "учитываются последние")
  ),
  done("without `message_id`", "без `message_id`", { messageId: undefined }, json, {
    ...note("answered without one", "ответ тоже без него"),
    nameless: true
  }),
  done("empty `message_id`", "пустой `message_id`", { messageId: "" }, json, {
    ...note("executed, and not recognised when it comes again", "выполнен; при повторе не узнаётся"),
    nameless: true
  }),
  done(
    "`message_id` of 255 bytes that are not UTF-8",
    "`message_id` из 255 байтов не в UTF-8",
    { messageId: "Y".repeat(255) },
    json,
    { ...note("answered without one", "ответ без него"), nameless: true }
  ),
  done(
    "an answer of more than 15 MiB (`B24RMQ_MAX_ANSWER`)",
    "ответ больше 15 МиБ (`B24RMQ_MAX_ANSWER`)",
    { params: { a: hugeAnswer } },
    undefined,
    { code: "B24RMQ_ANSWER_TOO_LARGE", times: 2 }
  ),

  rejected("NO_METHOD", "without headers", "без заголовков", {
    headers: { method: undefined, user: undefined, token: undefined }
  }),
  rejected("NO_METHOD", "without `method`", "без `method`", { headers: { method: undefined } }),
  rejected("NO_USER", "without `user`", "без `user`", { headers: { user: undefined } }),
  rejected("NO_TOKEN", "without `token`", "без `token`", { headers: { token: undefined } }),
  rejected("NO_METHOD", "`method` inside a header `__proto__` alone", "`method` только внутри заголовка `__proto__`", {
    headers: { method: undefined, ["__proto__"]: { method: rawMethod } }
  }),
  ...inHeader("method"),
  ...inHeader("user"),
  ...inHeader("token"),
  rejected("BAD_METHOD", "`method` that ends with `.xml`", "`method` с окончанием `.xml`", {
    method: "crm.deal.list.xml"
  }),
  rejected("BAD_METHOD", "`method` of 20,000 letters", "`method` из 20 000 букв", { method: "a".repeat(20_000) }),
  rejected("BAD_METHOD", "`method` as a table", "`method` таблицей", { method: { name: rawMethod } }),
  rejected("BAD_METHOD", "`method` as a list", "`method` списком", { method: [rawMethod] }),
  rejected("BAD_METHOD", "`method` as null", "`method` со значением null", { method: null }),
  rejected("BAD_METHOD", "`method` repeated, the last one wrong", "`method` дважды, последний неверный", {
    headers: { methoX: "../a" }
  }),
  rejected("BAD_USER", "`user` as a fraction", "`user` дробным числом", { user: 1.5 }),
  rejected("BAD_USER", "`user` as an int64 beyond 2^53", "`user` типа int64 больше 2^53", {
    user: { "!": "int64", value: 2 ** 60 }
  }),
  rejected("BAD_USER", "`user` as a timestamp", "`user` меткой времени", { user: { "!": "timestamp", value: 1 } }),
  rejected("BAD_USER", "`user` as a boolean", "`user` логическим значением", { user: true }),
  rejected("BAD_USER", "`user` in Arabic digits", "`user` арабскими цифрами", { user: "١٢" }),
  rejected("BAD_TOKEN", "`token` of 60 KiB", "`token` 60 КиБ", { token: "a".repeat(60 * 1024) }),
  rejected("BAD_TOKEN", "`token` with a hyphen or underscore", "`token` с дефисом или подчёркиванием", {
    token: "secret-token_1"
  }),
  rejected("BAD_TOKEN", "`token` as nested tables", "`token` вложенными таблицами", {
    token: { a: { b: { c: "secret0token" } } }
  }),
  rejected("BAD_ENCODING", "body not in UTF-8", "тело не в UTF-8", { params: inBody('{"a":"', [0xff], '"}') }),
  rejected("BAD_ENCODING", "body in Windows-1251", "тело в Windows-1251", {
    params: inBody('{"a":"', [0xcf, 0xf0, 0xe8], '"}')
  }),
  rejected("BAD_ENCODING", "body in UTF-16", "тело в UTF-16", { params: Buffer.from('\ufeff{"a":1}', "utf16le") }),
  rejected("BAD_JSON", "body that is not JSON", "тело не JSON", { params: "fields[TITLE]=a&id=1" }),
  rejected("BAD_JSON", "JSON that was cut short", "оборванный JSON", { params: '{"a":{"b":1}' }),
  rejected("BAD_JSON", "half of a surrogate pair, `\\ud83d`", "половина суррогатной пары, `\\ud83d`", {
    params: '{"a":"\\ud83d"}'
  }),
  rejected(
    "BAD_PARAMETERS",
    "a single value, such as `1` or JSON encoded twice",
    "одиночное значение, например `1` или дважды закодированный JSON",
    { params: '"{\\"a\\":1}"' }
  ),
  rejected("TOO_DEEP", "512 levels of lists", "512 уровней списков", { params: "[".repeat(512) + "]".repeat(512) }),
  rejected("TOO_DEEP", "10,000 levels of maps", "10 000 уровней объектов", {
    params: `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`
  }),
  rejected(
    "REQUEST_TOO_LARGE",
    "body of 15 MiB and a byte (`B24RMQ_MAX_REQUEST`)",
    "тело 15 МиБ и один байт (`B24RMQ_MAX_REQUEST`)",
    { params: Buffer.alloc(15 * MiB + 1, " ") },
    { times: 2 }
  )
]

export const oddMessages = odd

export const digest = (body: Uint8Array) => createHash("sha256").update(body).digest("hex")

/** The documents that print the table, each in its language. */
export const documents = { en: "docs/messages.md", ru: "docs/messages.ru.md" } as const

const titles = {
  en: "| Message | Outcome | Error code | |",
  ru: "| Сообщение | Исход | Код ошибки | |"
} as const

/** What becomes of odd messages, as a Markdown table. */
export const oddTable = (language: keyof typeof documents) =>
  [
    titles[language],
    "| --- | --- | --- | --- |",
    ...odd.map((one) => {
      const code = one.code === undefined ? "" : `\`${one.code}\``
      return `| ${one[language]} | \`${one.outcome}\` | ${code} | ${one.note?.[language] ?? ""} |`
    })
  ].join("\n")

const marks = /(?<=<!-- bad messages -->\n)[^]*?(?=\n<!-- \/bad messages -->)/

const pathOf = (language: keyof typeof documents) =>
  fileURLToPath(new URL(`../../${documents[language]}`, import.meta.url))

export const textOf = (language: keyof typeof documents) => readFileSync(pathOf(language), "utf8")

/** What stands between the marks of a document; undefined without them. */
export const tableIn = (language: keyof typeof documents) => marks.exec(textOf(language))?.[0]

if (import.meta.main) {
  for (const language of ["en", "ru"] as const) {
    const text = textOf(language)
    if (!marks.test(text)) throw new Error(`${documents[language]} has no marks <!-- bad messages -->`)
    writeFileSync(
      pathOf(language),
      text.replace(marks, () => oddTable(language))
    )
  }
}
