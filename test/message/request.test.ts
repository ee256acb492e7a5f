import { describe, expect, test } from "bun:test"
import { Redacted, Result } from "effect"
import fc from "fast-check"
import type { Incoming } from "../../src/message/incoming.ts"
import { type Rejected, readRequest, type Request } from "../../src/message/request.ts"

const MiB = 1024 * 1024

const incoming = (
  headers: Readonly<Record<string, unknown>> = {},
  body: string | Uint8Array = "{}",
  ids: Partial<Pick<Incoming, "messageId" | "correlationId">> = { messageId: "m-1" }
): Incoming => ({
  headers: { method: "crm.deal.list", user: "1", token: "secret0token", ...headers },
  body: typeof body === "string" ? Buffer.from(body) : body,
  messageId: ids.messageId,
  correlationId: ids.correlationId,
  timestamp: undefined
})

const read = (message: Incoming, limit = 15 * MiB) => readRequest(message, limit)

const good = (message: Incoming, limit?: number): Request => {
  const result = read(message, limit)
  if (Result.isFailure(result)) throw new Error(`${result.failure.code}: ${result.failure.description}`)
  return result.success
}

const rejected = (message: Incoming, limit?: number): Rejected => {
  const result = read(message, limit)
  if (Result.isSuccess(result)) throw new Error("it was accepted")
  return result.failure
}

const code = (message: Incoming, limit?: number) => rejected(message, limit).code

/** What the client library makes of a header that no producer should send. */
const noText: ReadonlyArray<unknown> = [
  null,
  true,
  false,
  {},
  { method: "crm.deal.list" },
  { "!": "timestamp", value: 1 },
  { "!": "decimal", value: { places: 0, digits: 1 } },
  ["crm.deal.list"],
  [],
  1.5,
  Number.NaN,
  Infinity,
  2 ** 53,
  -(2 ** 53)
]

describe("headers", () => {
  test("are read as text, as whole numbers and as bytes", () => {
    expect(good(incoming({ method: Buffer.from("crm.deal.get") })).method).toBe("crm.deal.get")
    expect(good(incoming({ method: 42 })).method).toBe("42")
    for (const user of ["17", 17, Buffer.from("17")]) expect(good(incoming({ user })).user).toBe("17")
    // An int64 that a double holds exactly, and a user id with zeros in front, which is the producer's affair.
    expect(good(incoming({ user: Number.MAX_SAFE_INTEGER })).user).toBe("9007199254740991")
    expect(good(incoming({ user: "007" })).user).toBe("007")
    for (const token of ["12345", 12_345, Buffer.from("12345")]) {
      expect(Redacted.value(good(incoming({ token })).token)).toBe("12345")
    }
  })

  test("of other kinds are refused, each by its name", () => {
    for (const value of noText) {
      expect(code(incoming({ method: value }))).toBe("B24RMQ_BAD_METHOD")
      expect(code(incoming({ user: value }))).toBe("B24RMQ_BAD_USER")
      expect(code(incoming({ token: value }))).toBe("B24RMQ_BAD_TOKEN")
    }
  })

  test("that are missing are told", () => {
    expect(code(incoming({ method: undefined }))).toBe("B24RMQ_NO_METHOD")
    expect(code(incoming({ user: undefined }))).toBe("B24RMQ_NO_USER")
    expect(code(incoming({ token: undefined }))).toBe("B24RMQ_NO_TOKEN")
    expect(code({ ...incoming(), headers: {} })).toBe("B24RMQ_NO_METHOD")
    // Names are compared as AMQP does: letter by letter.
    expect(code({ ...incoming(), headers: { Method: "a", User: "1", Token: "x" } })).toBe("B24RMQ_NO_METHOD")
  })

  test("of a nested table do not count, even one named __proto__", () => {
    const headers = Object.create({ method: "crm.deal.list", user: "1", token: "secret0token" }) as Incoming["headers"]
    expect(code({ ...incoming(), headers })).toBe("B24RMQ_NO_METHOD")
  })

  test("that we do not know change nothing", () => {
    const plain = good(incoming())
    const more = incoming({
      "x-death": [{ count: 3 }],
      deep: { a: { b: [null] } },
      constructor: 1,
      hasOwnProperty: "x"
    })
    expect(good(more)).toEqual(plain)
  })
})

/** Texts that must not come near an address. */
const dangers = [
  "",
  " ",
  "a b",
  "crm.deal.list\r\nHost: evil",
  "crm.deal.list\n",
  "a\0b",
  "a/b",
  "../../../admin",
  "a\\b",
  "user.get?auth=x",
  "user.get#x",
  "%2e%2e",
  "a%2fb",
  "a;b",
  "a:b",
  "a@b",
  "a&b=c",
  "ünder",
  "метод",
  "a\u2028b",
  "\ufeffa",
  "a\u0301",
  "\ud800"
]

describe("an address", () => {
  test("takes nothing but letters, digits, underscores and dots", () => {
    for (const text of dangers) {
      expect(code(incoming({ method: text }))).toBe("B24RMQ_BAD_METHOD")
      expect(code(incoming({ user: text }))).toBe("B24RMQ_BAD_USER")
      expect(code(incoming({ token: text }))).toBe("B24RMQ_BAD_TOKEN")
      expect(code(incoming({ method: Buffer.from(text) }))).toBe("B24RMQ_BAD_METHOD")
    }
  })

  test("takes no dots alone, which would climb up", () => {
    for (const method of [".", "..", "...", "...."]) expect(code(incoming({ method }))).toBe("B24RMQ_BAD_METHOD")
    for (const method of ["..a", "a..", "a..b", "._.", "_"]) expect(good(incoming({ method })).method).toBe(method)
  })

  test("takes only ASCII digits of a user, and no sign", () => {
    for (const user of ["١٢", "１", "²", "-1", "+1", "1.0", "1e3", "0x1", "1 ", " 1", "one"]) {
      expect(code(incoming({ user }))).toBe("B24RMQ_BAD_USER")
    }
    expect(code(incoming({ user: -1 }))).toBe("B24RMQ_BAD_USER")
  })

  test("takes no dot or underscore of a token", () => {
    for (const token of [".", "..", "a.b", "a_b", "a-b", "токен", "ａ"]) {
      expect(code(incoming({ token }))).toBe("B24RMQ_BAD_TOKEN")
    }
  })

  test("is bounded in length", () => {
    for (const [name, longest] of [
      ["method", 255],
      ["user", 20],
      ["token", 255]
    ] as const) {
      expect(good(incoming({ [name]: "1".repeat(longest) }))).toMatchObject({ messageId: "m-1" })
      const fault = rejected(incoming({ [name]: "1".repeat(longest + 1) }))
      expect(fault.code).toBe(`B24RMQ_BAD_${name.toUpperCase()}`)
      expect(fault.description).toContain(`it has ${longest + 1} characters, and ${longest} are allowed`)
    }
  })

  test("keeps the producer's spelling; .json may stay and .xml may not", () => {
    for (const method of ["CRM.Deal.LIST", "crm.deal.list.json", "tasks.flow.Flow.create", "xml", "a.xmls"]) {
      expect(good(incoming({ method })).method).toBe(method)
    }
    expect(code(incoming({ method: "crm.deal.list.xml" }))).toBe("B24RMQ_BAD_METHOD")
  })

  test("that is accepted stays one path below the portal's, whatever the headers are", () => {
    const text = fc.oneof(
      fc.string({ unit: fc.constantFrom(..."ab1_.%/\\?#:@ \r\n\té１"), maxLength: 8 }),
      fc.string({ maxLength: 8 }),
      fc.constantFrom(...dangers)
    )
    let accepted = 0
    fc.assert(
      fc.property(text, text, text, (method, user, token) => {
        // Each of the three by turns with good others, or hardly anything would be accepted.
        for (const headers of [{ method }, { user }, { token }, { method, user, token }]) {
          const result = read(incoming(headers))
          if (Result.isFailure(result)) continue
          accepted++
          const { success: request } = result
          const secret = Redacted.value(request.token)
          const path = `/rest/${request.user}/${secret}/${request.method}`
          const url = new URL(`https://portal.example${path}`)
          expect({ path: url.pathname, query: url.search, hash: url.hash }).toEqual({ path, query: "", hash: "" })
          expect(path.split("/").length).toBe(5)
        }
      }),
      { numRuns: 5_000 }
    )
    expect(accepted).toBeGreaterThan(500)
  })
})

describe("what a rejected message is answered", () => {
  const canary = "canary0canary1canary2"

  test("never repeats its token, nor more than a character of what was wrong", () => {
    const anything = fc.oneof(fc.constantFrom(...dangers), fc.constantFrom(...noText), fc.string(), fc.constant("1"))
    let count = 0
    fc.assert(
      fc.property(
        anything,
        anything,
        fc.constantFrom(canary, `${canary}-`, `../${canary}`, `${canary}\r\n`, `${canary}я`, canary.repeat(20)),
        fc.constantFrom("token", "user", "method"),
        fc.constantFrom("{}", "[", '"x"', "\ufeff{", `{"token":"${canary}"`, `"${canary}"`),
        (method, user, token, place, body) => {
          // A token may end up in the wrong header, too.
          const headers = { method, user, token, [place]: token }
          const result = read(incoming(headers, body))
          if (Result.isSuccess(result)) return
          count++
          const text = JSON.stringify(result.failure)
          expect(text).not.toContain("canary")
          expect(text.length).toBeLessThan(400)
        }
      ),
      { numRuns: 5_000 }
    )
    expect(count).toBeGreaterThan(2_000)
  })

  test("says what was read, what was expected and that nothing was sent", () => {
    expect(rejected(incoming({ method: "crm/deal" })).description).toBe(
      'The header method is wrong: it holds "/". Expected a REST method of letters, digits, underscores and dots, such as crm.deal.list. Nothing was sent to the portal.'
    )
    expect(rejected(incoming({ user: null })).description).toBe(
      "The header user is wrong: it is neither text nor a whole number. Expected the number of the webhook's user, such as 1. Nothing was sent to the portal."
    )
    expect(rejected(incoming({ token: "" })).description).toBe(
      "The header token is wrong: it is empty. Expected the webhook's secret, letters and digits only. Nothing was sent to the portal."
    )
    // Of a token not even the one wrong character is told.
    expect(rejected(incoming({ token: "secret/" })).description).toStartWith(
      "The header token is wrong: it holds other characters. Expected"
    )
    expect(rejected(incoming({ token: undefined })).description).toBe(
      "The header token is missing. Expected the webhook's secret, letters and digits only. Nothing was sent to the portal."
    )
  })
})

describe("a body", () => {
  const bodyOf = (text: string | Uint8Array) => Buffer.from(good(incoming({}, text)).body)

  test("goes on byte for byte", () => {
    const texts = [
      "{}",
      "[]",
      "null",
      ' {"a" : 1.0}\r\n',
      '{"id":12345678901234567890123,"sum":1e999}',
      '{"a":1,"a":2,"__proto__":{"b":1}}',
      '{"s":"\\ud83d\\ude00 \\u0000 \\/ 😀"}',
      '[4120,{"POST_MESSAGE":"ok"}]'
    ]
    for (const text of texts) expect(bodyOf(text)).toEqual(Buffer.from(text))
    fc.assert(
      fc.property(fc.json(), fc.constantFrom("", " ", "\n"), (json, space) => {
        const text = `${space}{"v":${json}}`
        expect(bodyOf(text).equals(Buffer.from(text))).toBe(true)
      })
    )
  })

  test("of nothing means no parameters", () => expect(bodyOf("")).toEqual(Buffer.from("{}")))

  test("loses one byte order mark", () => {
    expect(bodyOf("\ufeff{}")).toEqual(Buffer.from("{}"))
    expect(bodyOf("\ufeff")).toEqual(Buffer.from("{}"))
    expect(bodyOf('{"a":"\ufeff"}')).toEqual(Buffer.from('{"a":"\ufeff"}'))
    expect(code(incoming({}, "\ufeff\ufeff{}"))).toBe("B24RMQ_BAD_JSON")
    expect(code(incoming({}, Buffer.from([0xff, 0xfe, 0x7b, 0, 0x7d, 0])))).toBe("B24RMQ_BAD_ENCODING")
  })

  test("that is not UTF-8 is refused", () => {
    for (const bytes of [
      [0xff],
      [0xc3],
      [0xc0, 0x80],
      [0xed, 0xa0, 0x80],
      [0xf4, 0x90, 0x80, 0x80],
      [0xe0, 0x80, 0xaf]
    ]) {
      const body = Buffer.concat([Buffer.from('{"a":"'), Buffer.from(bytes), Buffer.from('"}')])
      expect(code(incoming({}, body))).toBe("B24RMQ_BAD_ENCODING")
    }
    const cp1251 = Buffer.from([0x7b, 0x22, 0x61, 0x22, 0x3a, 0x22, 0xcf, 0xf0, 0x22, 0x7d])
    expect(code(incoming({}, cp1251))).toBe("B24RMQ_BAD_ENCODING")
  })

  test("that is not JSON, or a single value, is refused", () => {
    for (const text of ["{", "a=1&b=2", "<xml/>", "{'a':1}", "undefined", " ", "{}{}", '{"a":1,}', "\0", "{}\0"]) {
      expect(code(incoming({}, text))).toBe("B24RMQ_BAD_JSON")
    }
    for (const text of ["1", "true", '"{}"', "1e9"]) expect(code(incoming({}, text))).toBe("B24RMQ_BAD_PARAMETERS")
    expect(rejected(incoming({}, '"{}"')).description).toContain("was it encoded twice?")
  })

  test("nests 511 levels deep and not 512; brackets in texts do not count", () => {
    const deep = (levels: number) => "[".repeat(levels) + "]".repeat(levels)
    expect(bodyOf(deep(511)).length).toBe(1022)
    expect(code(incoming({}, deep(512)))).toBe("B24RMQ_TOO_DEEP")
    expect(code(incoming({}, '{"a":'.repeat(10_000) + "1" + "}".repeat(10_000)))).toBe("B24RMQ_TOO_DEEP")
    expect(code(incoming({}, "[".repeat(1_000_000)))).toBe("B24RMQ_TOO_DEEP")
    const flat = JSON.stringify({ a: '[[[[\\"[{'.repeat(1_000), b: Array.from({ length: 1_000 }, () => [{}]) })
    expect(bodyOf(flat).length).toBe(flat.length)
  })

  test("is at most as long as allowed", () => {
    const body = `"${"x".repeat(20)}"`
    expect(code(incoming({}, `[${body}]`), 23)).toBe("B24RMQ_REQUEST_TOO_LARGE")
    expect(good(incoming({}, `[${body}]`), 24).body.length).toBe(24)
    const large = Buffer.from(`["${"x".repeat(14 * MiB)}"]`)
    expect(good(incoming({}, large)).body.length).toBe(large.length)
  })

  test("may be a part of a larger buffer", () => {
    const around = Buffer.from('xx\ufeff{"a":"я"}yy')
    expect(Buffer.from(good(incoming({}, around.subarray(2, -2))).body).toString()).toBe('{"a":"я"}')
  })
})

describe("identity", () => {
  const id = (message: Incoming) => good(message).id
  const text = fc.string({ minLength: 1, maxLength: 5 })
  const word = fc.string({ unit: fc.constantFrom(..."ab1"), minLength: 1, maxLength: 3 })
  const number = fc.string({ unit: fc.constantFrom(..."12"), minLength: 1, maxLength: 3 })
  const body = fc.constantFrom("{}", "[]", "[1]", "[11]", '{"a":1}', ' {"a":1}', "", "null")
  const request = fc.record({ messageId: text, method: word, user: number, token: word, body })

  const messageOf = ({
    messageId,
    method,
    user,
    token,
    body
  }: typeof request extends fc.Arbitrary<infer A> ? A : never) => incoming({ method, user, token }, body, { messageId })

  test("is the same for the same message, and another for any difference", () => {
    let same = 0
    const pairs = fc.tuple(
      request,
      request,
      fc.array(fc.constantFrom("messageId", "method", "user", "token", "body"), { maxLength: 5 })
    )
    fc.assert(
      fc.property(pairs, ([one, other, taken]) => {
        const near = { ...one, ...Object.fromEntries(taken.map((key) => [key, other[key]])) }
        const effective = (given: typeof one) => ({ ...given, body: given.body === "" ? "{}" : given.body })
        const isSame = Bun.deepEquals(effective(one), effective(near))
        if (isSame) same++
        expect(id(messageOf(one)) === id(messageOf(near))).toBe(isSame)
      }),
      { numRuns: 3_000 }
    )
    expect(same).toBeGreaterThan(100)
    expect(same).toBeLessThan(2_900)
  })

  test("does not run one part into the next", () => {
    const ids = [
      messageOf({ messageId: "a", method: "b", user: "1", token: "t", body: "[1]" }),
      messageOf({ messageId: "ab", method: "b", user: "1", token: "t", body: "[1]" }),
      messageOf({ messageId: 'a","1', method: "b", user: "1", token: "t", body: "[1]" }),
      messageOf({ messageId: "a", method: "tb", user: "1", token: "t", body: "[1]" }),
      messageOf({ messageId: "a", method: "b", user: "11", token: "t", body: "[1]" }),
      messageOf({ messageId: "a", method: "b", user: "1", token: "1t", body: "[1]" })
    ].map(id)
    expect(new Set(ids).size).toBe(ids.length)
  })

  test("does not depend on how a header was written, on other headers or on a correlation_id", () => {
    const plain = id(incoming({ user: "17" }))
    expect(id(incoming({ user: 17 }))).toBe(plain)
    expect(id(incoming({ user: Buffer.from("17"), extra: "x" }))).toBe(plain)
    expect(id(incoming({ user: "17" }, "\ufeff{}"))).toBe(plain)
    expect(id(incoming({ user: "17" }, "{}", { messageId: "m-1", correlationId: "c" }))).toBe(plain)
  })

  test("is the bytes of one digest, in letters that a file name may have", () => {
    expect(id(incoming())).toMatch(/^[A-Za-z0-9_-]{43}$/)
  })

  test("needs a message_id; an empty one names nothing, nor does one that lost bytes for not being UTF-8", () => {
    expect(good(incoming({}, "{}", {})).messageId).toBeUndefined()
    expect(good(incoming({}, "{}", { messageId: "" })).messageId).toBeUndefined()
    expect(good(incoming({}, "{}", { messageId: "0" })).messageId).toBe("0")
    const cp1251 = Buffer.from([0xc7, 0xe0, 0xea, 0xe0, 0xe7, 0x31]).toString("utf8")
    expect(good(incoming({}, "{}", { messageId: cp1251 })).messageId).toBeUndefined()
    expect(good(incoming({}, "{}", { messageId: "a", correlationId: "c" })).correlationId).toBe("c")
  })

  test("keeps the token to itself, and the credential says enough to find it", () => {
    const request = good(incoming({ user: "17", token: "canary0canary" }))
    expect(`${JSON.stringify(request)}${Bun.inspect(request)}${request.id}`).not.toContain("canary")
    expect(request.credential).toMatch(/^17#[0-9a-f]{8}$/)
    expect(good(incoming({ user: "17", token: "canary0canary2" })).credential).not.toBe(request.credential)
  })
})

test("any headers and any bytes end as a request or a reason", () => {
  const header = (right: string) =>
    fc.oneof(
      { weight: 5, arbitrary: fc.constant(right) },
      fc.constantFrom("crm.deal.list", "1", "secret0token", ...noText),
      fc.anything({ withBigInt: true, withDate: true, withMap: true, withTypedArray: true, withNullPrototype: true })
    )
  const headers = fc.record(
    { method: header("crm.deal.list"), user: header("1"), token: header("secret0token") },
    { requiredKeys: [] }
  )
  const body = fc.oneof(
    fc.uint8Array(),
    fc.json().map((text) => Buffer.from(text))
  )
  const codes = new Set<string>()
  fc.assert(
    fc.property(headers, body, fc.option(fc.string(), { nil: undefined }), (headers, body, messageId) => {
      const result = read({ headers, body, messageId, correlationId: undefined, timestamp: undefined })
      codes.add(Result.isFailure(result) ? result.failure.code : "none")
    }),
    { numRuns: 3_000 }
  )
  expect([...codes].toSorted()).toEqual([
    "B24RMQ_BAD_ENCODING",
    "B24RMQ_BAD_JSON",
    "B24RMQ_BAD_METHOD",
    "B24RMQ_BAD_PARAMETERS",
    "B24RMQ_BAD_TOKEN",
    "B24RMQ_BAD_USER",
    "B24RMQ_NO_METHOD",
    "B24RMQ_NO_TOKEN",
    "B24RMQ_NO_USER",
    "none"
  ])
})

test("a header whose table has bytes for a prototype has no text", () => {
  const odd: object = Object.create(Buffer.from("crm.deal.list"))
  const read = readRequest(
    {
      body: Buffer.from("{}"),
      headers: { method: odd, user: "1", token: "abc" },
      messageId: "m",
      correlationId: undefined,
      timestamp: undefined
    },
    1_000
  )
  expect(Result.isFailure(read) && read.failure.code).toBe("B24RMQ_BAD_METHOD")
})
