import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { Result } from "effect"
import fc from "fast-check"
import { readRequest } from "../../src/message/request.ts"
import { startPhp } from "./php.ts"

let php: ReturnType<typeof startPhp>
beforeAll(() => {
  php = startPhp()
})
afterAll(() => php.stop())

const headers = { method: "crm.deal.list", user: "1", token: "secret0token" }

/** The code of our own check, or the bytes that it lets through. */
const ours = (body: Uint8Array): string | Uint8Array => {
  const read = readRequest(
    { body, headers, messageId: undefined, correlationId: undefined, timestamp: undefined },
    100_000_000
  )
  return Result.match(read, { onFailure: ({ code }) => code, onSuccess: (request) => request.body })
}

/** Compares our check with PHP on one body, and says which of the two verdicts it was. */
const compare = async (body: Uint8Array): Promise<"accepted" | "refused"> => {
  const mine = ours(body)
  if (typeof mine !== "string") {
    // What leaves for the portal is what PHP has to read.
    expect(await php.judge(mine)).toBeOneOf(["array", "null"])
    return "accepted"
  }
  const verdict = await php.judge(body)
  expect(verdict).toBe(mine === "B24RMQ_BAD_PARAMETERS" ? "scalar" : "refused")
  return "refused"
}

/** Compares many bodies. Both verdicts have to come up often, or the generator proves nothing. */
const agree = async (bodies: fc.Arbitrary<string | Uint8Array>, numRuns: number, least: number) => {
  const count = { accepted: 0, refused: 0 }
  await fc.assert(
    fc.asyncProperty(bodies, async (body) => {
      count[await compare(typeof body === "string" ? Buffer.from(body) : body)]++
    }),
    { numRuns }
  )
  expect(count.accepted).toBeGreaterThan(least * numRuns)
  expect(count.refused).toBeGreaterThan(least * numRuns)
}

const escapes = fc.constantFrom(
  ...'\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u0041 \\u0000 \\u00e9 \\u2028 \\uFFFF \\ud83d\\ude00 \\uD83D\\uDE00'.split(
    " "
  ),
  ..."\\ud83d \\ude00 \\ude00\\ud83d \\ud83d\\ud83d\\ude00 \\udbff\\udfff \\ud7ff \\ue000 \\ud83d\\u0041 \\\\ud83d".split(
    " "
  ),
  ..."\\u12 \\u \\x41 \\' \\0 \\a \\U0041 \\u{41} \\ud83d\\\\ude00 \\ud83dx\\ude00".split(" "),
  ..."a я 😀 / <".split(" "),
  "\u2028",
  "\u007f",
  "\t",
  "\n",
  "\u0000",
  "\ufeff"
)
const strings = fc.array(escapes, { maxLength: 4 }).map((parts) => `"${parts.join("")}"`)

const words = fc.constantFrom(
  ..."true false null TRUE False NULL nUll tRue undefined NaN Infinity -Infinity".split(" "),
  ..."0 -0 1 -1 01 -01 1. .5 1.5 1e5 1E+5 1e-5 1e 1e+ 0x10 +1 1_000 1e999 -1e999 1e-999 - --1 0.0 00".split(" "),
  "12345678901234567890123",
  "9223372036854775808",
  "-9223372036854775809",
  `${"9".repeat(400)}`,
  `0.${"1".repeat(400)}`
)

const spaces = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom("", "", "", " ", "\t", "\n", "\r", " \r\n\t ") },
  fc.constantFrom(
    "\v",
    "\f",
    "\u00a0",
    "\u2028",
    "\u2029",
    "\ufeff",
    "\u0000",
    "\u0085",
    "\u3000",
    "/* */",
    "//\n",
    "#\n"
  )
)

const keys = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom('"a"', '"__proto__"', '"constructor"', '""', '"0"', '"я"', '"a":1,"a"') },
  { weight: 1, arbitrary: strings },
  { weight: 1, arbitrary: fc.constantFrom("a", "'a'", "1", "null", '"\\u0000"', "__proto__") }
)

const { value: documents } = fc.letrec<{ readonly value: string; readonly inner: string }>((tie) => ({
  inner: fc.oneof({ maxDepth: 4, withCrossShrink: true }, words, strings, tie("value")),
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom("{}", "[]", '{"a":1}', '{"__proto__":{"b":[]}}'),
    fc
      .tuple(spaces, fc.array(fc.tuple(keys, spaces, tie("inner")), { maxLength: 3 }), fc.constantFrom("", "", "", ","))
      .map(
        ([space, entries, last]) =>
          `{${entries.map(([key, before, value]) => `${key}:${before}${value}`).join(`,${space}`)}${last}}`
      ),
    fc
      .tuple(spaces, fc.array(tie("inner"), { maxLength: 3 }), fc.constantFrom("", "", "", ","))
      .map(([space, items, last]) => `[${space}${items.join(`,${space}`)}${last}]`)
  )
}))

describe("our check accepts what PHP reads as parameters, and nothing else", () => {
  test(
    "in documents with odd escapes, numbers, words, keys and spaces",
    () =>
      agree(
        fc.tuple(spaces, documents, spaces).map((parts) => parts.join("")),
        6_000,
        0.1
      ),
    60_000
  )

  test("in plain JSON of every kind", async () => {
    await fc.assert(
      fc.asyncProperty(fc.json({ maxDepth: 6 }), async (text) => void (await compare(Buffer.from(text)))),
      { numRuns: 2_000 }
    )
  })

  test("in plain JSON in which bytes were changed, lost or added", () => {
    const spoilt = fc
      .tuple(
        fc.json({ maxDepth: 4 }),
        fc.nat(),
        fc.integer({ min: 0, max: 255 }),
        fc.constantFrom("change", "lose", "add", "none")
      )
      .map(([text, where, byte, how]) => {
        const bytes = Buffer.from(`[${text}]`)
        const at = where % bytes.length
        if (how === "none") return bytes
        const added = how === "lose" ? [] : [Buffer.from([byte])]
        return Buffer.concat([bytes.subarray(0, at), ...added, bytes.subarray(how === "add" ? at : at + 1)])
      })
    return agree(spoilt, 4_000, 0.1)
  })

  test("in bytes of no kind", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 12 }), async (bytes) => void (await compare(bytes))),
      { numRuns: 2_000 }
    )
  })

  test("in nesting around 511 levels, and far beyond", async () => {
    const nested = fc
      .tuple(
        fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 505, max: 520 }) }, fc.constantFrom(1, 300, 1_000, 10_000)),
        fc.constantFrom("lists", "maps", "both"),
        fc.constantFrom("", "1", '"]]]}}}[[["', '"\\"[[["')
      )
      .map(([depth, kind, middle]) => {
        const isMap = (level: number) => kind === "maps" || (kind === "both" && level % 2 === 1)
        const open = Array.from({ length: depth }, (_, level) => (isMap(level) ? '{"[":' : "[")).join("")
        const close = Array.from({ length: depth }, (_, level) => (isMap(depth - 1 - level) ? "}" : "]")).join("")
        return `${open}${isMap(depth - 1) && middle === "" ? "0" : middle}${close}`
      })
    await agree(nested, 500, 0.1)
  })

  test("at the bound itself", async () => {
    for (const [depth, verdict] of [
      [511, "array"],
      [512, "refused"]
    ] as const) {
      const body = Buffer.from("[".repeat(depth) + "]".repeat(depth))
      expect(await php.judge(body)).toBe(verdict)
      expect(ours(body)).toEqual(verdict === "array" ? body : "B24RMQ_TOO_DEEP")
    }
  })
})

// PHP reads them, and a method gets no parameters all the same.
test("the bodies that PHP reads and we refuse: a single value", async () => {
  for (const text of ["true", "1", "1.5", '"text"', '"{\\"a\\":1}"', "1e999", " 7 "]) {
    expect(await php.judge(Buffer.from(text))).toBe("scalar")
    expect(ours(Buffer.from(text))).toBe("B24RMQ_BAD_PARAMETERS")
  }
})

test("the bodies that JavaScript reads and PHP does not", async () => {
  for (const [text, code] of [
    ['["\\ud800"]', "B24RMQ_BAD_JSON"],
    ['["\\udc00"]', "B24RMQ_BAD_JSON"],
    ['["\\ud83d\\u0041"]', "B24RMQ_BAD_JSON"],
    ["[".repeat(512) + "]".repeat(512), "B24RMQ_TOO_DEEP"]
  ] as const) {
    expect(() => JSON.parse(text)).not.toThrow()
    expect(await php.judge(Buffer.from(text))).toBe("refused")
    expect(ours(Buffer.from(text))).toBe(code)
  }
})

test("TRUE, False and NULL in capitals are no JSON, to PHP as to us", async () => {
  for (const text of ['{"a":TRUE}', '{"a":False}', "[NULL]", "NULL", "[tRuE]"]) {
    expect(await php.judge(Buffer.from(text))).toBe("refused")
    expect(ours(Buffer.from(text))).toBe("B24RMQ_BAD_JSON")
  }
})
