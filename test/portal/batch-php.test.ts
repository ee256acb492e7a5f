import { afterAll, expect, test } from "bun:test"
import fc from "fast-check"
import { commandOf } from "../../src/portal/batch.ts"
import { startPhp } from "../rig/php.ts"

/**
 * PHP is the referee: what a method sees of a JSON body, with numbers and booleans as text, and what it sees of the
 * command. `changed`: PHP's own encoder would not have brought the body through a query either.
 */
const php = startPhp(String.raw`
  $alone = json_decode($ask["body"], true);
  array_walk_recursive($alone, function (&$value) {
    if (is_bool($value)) $value = $value ? "1" : "0";
    elseif (is_int($value) || is_float($value)) $value = (string) $value;
  });
  @parse_str(http_build_query($alone, "", "&", PHP_QUERY_RFC3986), $naive);
  $answer = ["changed" => $naive !== $alone, "alone" => $alone];
  if ($ask["command"] === null) return $answer;
  $address = parse_url($ask["command"]);
  @parse_str($address["query"] ?? "", $packed);
  $references = 0;
  array_walk_recursive($packed, function ($value, $key) use (&$references) {
    $references += preg_match('/\$(result|next|total|time|error)\S*\[[^\]]+\]/i', $value) + substr_count($key, "$");
  });
  return $answer + [
    "same" => $packed === $alone, "method" => $address["path"], "fragment" => isset($address["fragment"]),
    "references" => $references, "packed" => $packed
  ];
`)
afterAll(() => php?.stop())
const withPhp = test.skipIf(php === undefined)

interface Verdict {
  readonly changed: boolean
  readonly same?: boolean
}

const judge = async (method: string, body: string): Promise<Verdict & { readonly isPacked: boolean }> => {
  const command = commandOf(method, Buffer.from(body))
  const verdict = (await php?.ask({ body, command: command ?? null })) as Verdict
  if (command !== undefined) {
    expect(verdict).toMatchObject({ same: true, method, fragment: false, references: 0 })
  }
  return { ...verdict, isPacked: command !== undefined }
}

/** Runs a property and says how many bodies were packed, and how many PHP would have changed. */
const count = async (bodies: fc.Arbitrary<readonly [string, string]>, numRuns: number) => {
  const counts = { packed: 0, changed: 0, refusedForNothing: 0 }
  await fc.assert(
    fc.asyncProperty(bodies, async ([method, body]) => {
      const { isPacked, changed } = await judge(method, body)
      if (isPacked) counts.packed++
      if (changed) counts.changed++
      if (!isPacked && !changed) counts.refusedForNothing++
    }),
    { numRuns }
  )
  return counts
}

const joined = (parts: ReadonlyArray<string>, maxLength: number) =>
  fc.array(fc.constantFrom(...parts), { size: "max", maxLength }).map((some) => some.join(""))

// Likely to touch what PHP does differently, rather than any text.
const oddKeys = joined(
  [..."abc01[]. +%&=#$\0\t\v\u00a0ж_-/?'\"", "[]", "GLOBALS", "this", "%5B", "%00", "result", "9223372036854775808"],
  4
)
const oddTexts = joined(
  [
    ..."x =+%&#?/'\"\\;:!*()~\0\n\u00a0\u2028Ж😀",
    "$result",
    "$Next",
    "[m0]",
    "[",
    "]",
    "%2B",
    "%D0",
    "&amp;",
    "\u0007"
  ],
  10
)
const goodKeys = fc
  .tuple(
    fc.constantFrom("b", "TITLE", "%TITLE", ">=ID", "ж", "_", "@ID", "!"),
    fc.string({ unit: "grapheme-ascii", maxLength: 3 })
  )
  .map(([start, rest]) => start + rest.replace(/[^\w%>=@!-]/g, ""))
const goodTexts = fc
  .oneof(oddTexts, fc.string({ unit: "binary", maxLength: 30 }), fc.lorem())
  .map((text) => text.replaceAll(/[$\0]/g, ""))
const numbers = fc.oneof(
  fc.integer().map(String),
  fc.bigInt().map(String),
  fc.double({ noDefaultInfinity: true, noNaN: true }).map(String),
  fc.tuple(fc.integer(), fc.nat()).map(([whole, part]) => `${whole}.${part}`),
  fc.constantFrom("0", "-0", "1.0", "-1", "1e3", "0.1", "0.10", "12345678901234567890", "0.0001", "0.00001", "1E-7")
)

/** JSON text of a map: the text, since objects would sort whole numbers to the front and numbers lose their spelling. */
const trees = (keys: fc.Arbitrary<string>, leaves: fc.Arbitrary<string>, least: number) =>
  fc.letrec<{ map: string; value: string }>((tie) => ({
    map: fc
      .uniqueArray(fc.tuple(keys, tie("value")), { minLength: least, maxLength: 5, selector: ([key]) => key })
      .map((entries) => `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(",")}}`),
    value: fc.oneof(
      { maxDepth: 4, depthSize: "small" },
      { arbitrary: leaves, weight: 4 },
      { arbitrary: tie("map"), weight: 1 },
      {
        arbitrary: fc.array(tie("value"), { minLength: least, maxLength: 4 }).map((items) => `[${items.join(",")}]`),
        weight: 1
      }
    )
  })).map

const quoted = (texts: fc.Arbitrary<string>) => texts.map((text) => JSON.stringify(text))

withPhp("a method sees of a command what it would have seen of the body, or the request goes alone", async () => {
  const leaves = fc.oneof(
    { arbitrary: quoted(oddTexts), weight: 6 },
    { arbitrary: numbers, weight: 2 },
    { arbitrary: fc.constantFrom("null", "true", "false"), weight: 1 }
  )
  const methods = fc.constantFrom("crm.deal.list", "erp.order.push", "user.get")
  const counts = await count(fc.tuple(methods, trees(oddKeys, leaves, 0)), 6_000)
  // Both happen often, or nothing is proved.
  expect(counts.packed).toBeGreaterThan(300)
  expect(counts.changed).toBeGreaterThan(1_500)
})

withPhp("what has nothing odd about it is packed, whatever its texts are", async () => {
  const methods = fc.constantFrom("crm.deal.add", "erp.order.push")
  const counts = await count(fc.tuple(methods, trees(goodKeys, quoted(goodTexts), 1)), 4_000)
  expect(counts).toEqual({ packed: 4_000, changed: 0, refusedForNothing: 0 })
})

withPhp("keys with all that is in them", async () => {
  const counts = await count(
    fc
      .tuple(oddKeys, oddKeys)
      .map(([top, key]) => ["erp.order.push", `{${JSON.stringify(top)}:{${JSON.stringify(key)}:"x"}}`] as const),
    6_000
  )
  expect(counts.packed).toBeGreaterThan(500)
  expect(counts.changed).toBeGreaterThan(2_000)
})

withPhp("numbers keep their text, and those that PHP would print differently go alone", async () => {
  let different = 0
  const counts = await count(
    numbers.map((number) => {
      if (!/^-?\d{1,18}$/.test(number)) different++
      return ["crm.deal.list", `{"id":${number}}`] as const
    }),
    5_000
  )
  expect(counts.packed).toBeGreaterThan(1_000)
  expect(counts.packed).toBeLessThan(4_500)
  expect(different).toBeGreaterThan(1_000)
})

withPhp("booleans are 1 and 0", async () => {
  const bodies = fc
    .tuple(
      fc.constantFrom("FILTER", "filter"),
      fc.constantFrom("ACTIVE", "!active", "=IS_ONLINE", "NAME"),
      fc.boolean()
    )
    .map(([name, key, value]) => ["user.get", JSON.stringify({ [name]: { [key]: value } })] as const)
  const counts = await count(bodies, 200)
  expect(counts.packed).toBeGreaterThan(50)
})

withPhp("the limits on values and on levels lie within PHP's own", async () => {
  const wide = (values: number) => JSON.stringify({ a: Array.from({ length: values }, (_, at) => `x${at}`) })
  const deep = (levels: number) => `{"a":${'{"b":'.repeat(levels)}"x"${"}".repeat(levels)}}`
  const packed: Array<boolean> = []
  for (const body of [wide(999), wide(1_000), wide(1_001), deep(63), deep(64), deep(65)]) {
    packed.push((await judge("erp.order.push", body)).isPacked)
  }
  expect(packed).toEqual([true, false, false, true, false, false])
})
