import { afterAll, expect, test } from "bun:test"
import * as fc from "fast-check"
import { decodeJson, encodeJson, Unencodable } from "../../../src/sandbox/portal/json.ts"
import { parseCommand, parseStr, textOfBytes, urlDecode } from "../../../src/sandbox/portal/php.ts"
import { keysOf, Raw, type Value } from "../../../src/sandbox/portal/value.ts"
import { startPhp } from "./php.ts"

const php = startPhp()
afterAll(() => php?.stop())
const withPhp = test.skipIf(php === undefined)

const written = (value: Value | undefined): string => {
  if (value === undefined) return "false"
  try {
    return encodeJson(value)
  } catch (error) {
    if (error instanceof Unencodable) return "unencodable"
    throw error
  }
}

const decoded = (text: string): string => {
  const value = decodeJson(text)
  return written(value === undefined ? undefined : [value])
}

// Text that is likely to touch what PHP does differently, rather than any text.
const pieces = (...of: ReadonlyArray<string>) =>
  fc.array(fc.constantFrom(...of), { maxLength: 14 }).map((all) => all.join(""))
const names = pieces(
  "a",
  "b",
  "0",
  "1",
  "-3",
  "07",
  "[",
  "]",
  "[]",
  ".",
  " ",
  "+",
  "%20",
  "%5B",
  "%5D",
  "%00",
  "ж",
  "$"
)
const values = pieces("x", "=", "+", "%", "%2", "%26", "%D0%96", "%d0", "%FF", "ж", " ", "#", "/", '"', "%22")
const query = fc
  .array(
    fc.oneof(
      fc.tuple(names, values).map(([name, value]) => `${name}=${value}`),
      names
    ),
    { maxLength: 8 }
  )
  .map((pairs) => pairs.join("&"))

withPhp("a query string is read as parse_str reads it", async () => {
  await fc.assert(
    fc.asyncProperty(query, async (text) => {
      expect(written(parseStr(text))).toBe((await php?.ask("parse_str", text)) ?? "")
    }),
    { numRuns: 4000 }
  )
})

withPhp("the limits on variables and on nesting are PHP's own", async () => {
  const many = Array.from({ length: 1005 }, (_, index) => `a[]=${index}`).join("&")
  const deep = (levels: number) => `x=1&a[k]=1&a${"[b]".repeat(levels)}=1&a[c]=2`
  for (const text of [many, deep(63), deep(64), deep(65)]) {
    expect(written(parseStr(text))).toBe((await php?.ask("parse_str", text)) ?? "")
  }
})

const json = fc.oneof(
  fc.json({ stringUnit: "binary" }),
  fc.jsonValue().map((value) => JSON.stringify(value, null, 1)),
  pieces(
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"',
    '"a"',
    '"0"',
    '"1"',
    "1",
    "-0",
    "01",
    "true",
    "TRUE",
    "null",
    " ",
    "\n",
    "\\",
    "\u0001"
  ),
  pieces('"', "\\ud83d", "\\ude00", "\\udc00", "\\u0041", "\\u00", "\\n", "\\x", "ж", "😀", "/", "&").map(
    (text) => `"${text}"`
  )
)

// Floats are printed by other rules there and here, and no method of a portal depends on the last digit.
const hasFloat = /[\d][.eE]|\d{19}|-0/

withPhp("JSON is taken and refused as json_decode does", async () => {
  await fc.assert(
    fc.asyncProperty(json, async (text) => {
      fc.pre(!hasFloat.test(text))
      expect(decoded(text).replaceAll("\\/", "/")).toBe(
        (await php?.ask("json_decode", text))?.replaceAll("\\/", "/") ?? ""
      )
    }),
    { numRuns: 4000 }
  )
})

withPhp("bytes that are no UTF-8 are no JSON", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 6 }), async (bytes) => {
      const body = Buffer.concat([Buffer.from('"'), bytes, Buffer.from('"')])
      expect(decoded(textOfBytes(body)).replaceAll("\\/", "/")).toBe(
        (await php?.ask("json_decode", body))?.replaceAll("\\/", "/") ?? ""
      )
    }),
    { numRuns: 4000 }
  )
})

withPhp("JSON nested as deep as PHP allows is taken, and no deeper", async () => {
  for (const depth of [510, 511, 512, 513]) {
    for (const text of ["[".repeat(depth) + "]".repeat(depth), '{"a":'.repeat(depth) + "1" + "}".repeat(depth)]) {
      expect(decoded(text)).toBe((await php?.ask("json_decode", text)) ?? "")
    }
  }
})

withPhp("a command line is split as parse_url splits it", async () => {
  const command = fc
    .tuple(pieces("crm.deal.get", ".", "a", "-", "_", " ", "ж"), values)
    .map(([method, rest]) => `m${method}?${rest}`)
  await fc.assert(
    fc.asyncProperty(command, async (text) => {
      const { method, query } = parseCommand(text)
      expect(written([method, query])).toBe((await php?.ask("parse_url", text)) ?? "")
    }),
    { numRuns: 4000 }
  )
})

test("integers keep all their digits, and an echo keeps its very text", () => {
  expect(written(decodeJson("[12345678901234567890,9007199254740993]"))).toBe("[12345678901234567890,9007199254740993]")
  expect(encodeJson(new Raw('{ "n": 1.50, "t": "é" }'))).toBe('{ "n": 1.50, "t": "\\u00e9" }')
})

test("keys stay in their order of arrival, numbers too", () => {
  const value = decodeJson('{"b":1,"2":2,"0":3,"b":4}')
  expect(typeof value === "object" && value !== null && !(value instanceof Raw) ? keysOf(value) : []).toEqual([
    "b",
    "2",
    "0"
  ])
  expect(written(value)).toBe('{"b":4,"2":2,"0":3}')
})

test("an array is a list by its keys, and an empty object is an empty list", () => {
  expect(written(decodeJson('[{"0":"a","1":"b"},{"1":"a","0":"b"},{}]'))).toBe('[["a","b"],{"1":"a","0":"b"},[]]')
})

test("names that mean something to JavaScript are plain keys", () => {
  expect(written(decodeJson('{"__proto__":{"a":1},"constructor":2}'))).toBe('{"__proto__":{"a":1},"constructor":2}')
  expect(written(parseStr("__proto__[a]=1&toString=2"))).toBe('{"__proto__":{"a":"1"},"toString":"2"}')
})

test("the encoder writes what the portal's flags say", () => {
  expect(encodeJson({ t: "Ж/<b>&'\"\\\n\u007f😀" })).toBe(
    '{"t":"\\u0416\\/\\u003Cb\\u003E\\u0026\\u0027\\u0022\\\\\\n\u007f\\ud83d\\ude00"}'
  )
})

test("a broken escape stays in the text, and a broken byte makes the answer unencodable", () => {
  expect(urlDecode("50%+off%2")).toBe("50% off%2")
  expect(written(urlDecode("%D0%96%ff"))).toBe("unencodable")
})
