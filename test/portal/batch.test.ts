import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { commandOf, mostCommands, pack, unpack } from "../../src/portal/batch.ts"
import { judge, judgeMember } from "../../src/portal/outcome.ts"

const command = (body: unknown, method = "crm.deal.list") =>
  commandOf(method, Buffer.from(typeof body === "string" ? body : JSON.stringify(body)))

/** Somebody's own method, of which nothing is known. */
const own = (body: unknown) => command(body, "erp.order.push")

describe("a command", () => {
  test("is the bare method where there are no parameters", () => {
    expect(command({})).toBe("crm.deal.list")
    expect(command(" { } ")).toBe("crm.deal.list")
  })

  test("holds strings, encoded once, keys too", () => {
    expect(own({ a: "x" })).toBe("erp.order.push?a=x")
    expect(own({ a: "1+1 = 50% & 'more' #2?" })).toBe("erp.order.push?a=1%2B1%20%3D%2050%25%20%26%20'more'%20%232%3F")
    expect(own({ filter: { "%TITLE": "Ж", ">=DATE": "" } })).toBe(
      "erp.order.push?filter%5B%25TITLE%5D=%D0%96&filter%5B%3E%3DDATE%5D="
    )
    expect(own(String.raw`{"a":"\u0416\n\"\\\/"}`)).toBe("erp.order.push?a=%D0%96%0A%22%5C%2F")
  })

  test("holds nested maps and lists, with the numbers of a list written out", () => {
    expect(own({ fields: { PHONE: [{ VALUE: "+7", TYPE: "WORK" }, { VALUE: "8" }] } })).toBe(
      "erp.order.push?fields%5BPHONE%5D%5B0%5D%5BVALUE%5D=%2B7&fields%5BPHONE%5D%5B0%5D%5BTYPE%5D=WORK" +
        "&fields%5BPHONE%5D%5B1%5D%5BVALUE%5D=8"
    )
    expect(own({ m: [["a"], ["b", "c"]] })).toBe("erp.order.push?m%5B0%5D%5B0%5D=a&m%5B1%5D%5B0%5D=b&m%5B1%5D%5B1%5D=c")
  })

  test("keeps the order of keys, whole numbers too", () => {
    expect(own('{"b":"1","a":{"1":"x","0":"y"}}')).toBe("erp.order.push?b=1&a%5B1%5D=x&a%5B0%5D=y")
  })

  test("holds a number with its own text, for methods that take it so", () => {
    expect(command({ start: -1 })).toBe("crm.deal.list?start=-1")
    expect(command({ id: 812 }, "CRM.Deal.Get")).toBe("CRM.Deal.Get?id=812")
    expect(command({ fields: { OPPORTUNITY: 1500.5 } }, "crm.deal.add")).toBe(
      "crm.deal.add?fields%5BOPPORTUNITY%5D=1500.5"
    )
    for (const number of ["0", "-7", "0.5", "-0.25", "0.0001", "999999999999999999", "99999999999.125"]) {
      expect(command(`{"id":${number}}`)).toBe(`crm.deal.list?id=${number}`)
    }
  })

  test("holds no number that PHP would write in another way", () => {
    for (const number of [
      "-0",
      "1.0",
      "0.10",
      "1e3",
      "1E3",
      "1.5e1",
      "0.00001",
      "12345678901234567890",
      "1234567890.12345",
      "100000000000000.5"
    ]) {
      expect([number, command(`{"id":${number}}`)]).toEqual([number, undefined])
    }
  })

  test("holds no number for a method of which that is not known", () => {
    for (const method of [
      "erp.order.push",
      "erp.order.list",
      "crm.item.productrow.set",
      "bizproc.workflow.start",
      "app.option.set",
      "event.offline.get",
      "user.search"
    ]) {
      expect([method, command({ id: 1 }, method)]).toEqual([method, undefined])
      expect([method, command({ id: "1" }, method)]).toEqual([method, `${method}?id=1`])
    }
  })

  test("holds true and false only where 1 and 0 are known to say the same", () => {
    expect(command({ FILTER: { ACTIVE: true }, start: 0 }, "user.get")).toBe("user.get?FILTER%5BACTIVE%5D=1&start=0")
    expect(command({ filter: { "!=active": false } }, "User.Get")).toBe("User.Get?filter%5B!%3Dactive%5D=0")
    expect(command({ full: true }, "scope")).toBe("scope?full=1")
    expect(command({ FILTER: { "!UF_DEPARTMENT": false } }, "user.get")).toBeUndefined()
    expect(command({ FILTER: { ACTIVE: [true] } }, "user.get")).toBeUndefined()
    expect(command({ filter: { OPENED: true } })).toBeUndefined()
    expect(own({ a: true })).toBeUndefined()
  })

  test("holds nothing that would vanish", () => {
    for (const empty of [null, [], {}, { a: {} }, [[]], ["a", null], { a: "x", b: [] }]) {
      expect(own({ a: empty })).toBeUndefined()
    }
  })

  test("is not made of positional parameters", () => {
    expect(command([4120, { POST_MESSAGE: "ok" }], "task.commentitem.add")).toBeUndefined()
    expect(command([], "task.commentitem.add")).toBeUndefined()
    expect(command({ 0: "4120", 1: { POST_MESSAGE: "ok" } }, "task.commentitem.add")).toBeUndefined()
  })

  test("has no key that PHP would change", () => {
    for (const key of ["a.b", "a b", " a", "a[", "a]", "a[b]", "[a]", "", "a\0b", "$a"]) {
      expect([key, own({ [key]: "x" })]).toEqual([key, undefined])
    }
    for (const key of ["a[", "a]", "[a]", "", " ", "\t", "a\0b", "$result[m0]", "a$"]) {
      expect([key, own({ a: { [key]: "x" } })]).toEqual([key, undefined])
    }
    // Below the top these stay as they are.
    expect(own({ a: { "b.c": "x", "d e": "y", " f": "z" } })).toBe(
      "erp.order.push?a%5Bb.c%5D=x&a%5Bd%20e%5D=y&a%5B%20f%5D=z"
    )
  })

  test("has no parameter that the portal takes for itself", () => {
    for (const key of [
      "auth",
      "access_token",
      "auth_connector",
      "sessid",
      "token",
      "state",
      "method",
      "ap",
      "aplogin"
    ]) {
      expect(own({ [key]: "x" })).toBeUndefined()
      expect(own({ a: { [key]: "x" } })).toBeDefined()
    }
  })

  test("refers to no other answer", () => {
    for (const text of [
      "$result[m0]",
      "see $result[m0][ID] there",
      "$RESULT[m0]",
      "$next[m0]",
      "$total[m0]",
      "$time[m0][start]",
      "$error[m0]",
      // A portal adds the keys of earlier errors to its words, and is no judge of what a space is beyond ASCII.
      "$argument[m0]",
      "$result\u00a0[m0]",
      "$result\u2028.x[m0]"
    ]) {
      expect([text, own({ a: text })]).toEqual([text, undefined])
      expect([text, own({ a: { b: ["x", text] } })]).toEqual([text, undefined])
    }
    for (const text of ["$result", "$ [m0]", "US$ 5 [net]", "$5", "[m0]$"]) expect(own({ a: text })).toBeDefined()
  })

  test("is no deeper and has no more values than PHP reads", () => {
    const deep = (levels: number) => `{"a":${'{"b":'.repeat(levels)}"x"${"}".repeat(levels)}}`
    expect(own(deep(63))).toBe(`erp.order.push?a${"%5Bb%5D".repeat(63)}=x`)
    expect(own(deep(64))).toBeUndefined()
    expect(own({ a: Array.from({ length: 999 }, () => "x") })).toBeDefined()
    expect(own({ a: Array.from({ length: 1000 }, () => "x") })).toBeUndefined()
  })

  test("is not so long that a full batch could be refused for its size", () => {
    expect(own({ a: "x".repeat(19_000) })).toHaveLength(19_017)
    expect(own({ a: "x".repeat(19_999) })).toBeUndefined()
    expect(own({ a: "Ж".repeat(5_000) })).toBeUndefined()
    const full = pack(Array.from({ length: mostCommands }, () => own({ a: "x".repeat(19_900) }) ?? ""))
    expect(full.length).toBeGreaterThan(990_000)
    expect(full.length).toBeLessThan(1024 * 1024)
  })

  test("has the name of the method, without .json", () => {
    expect(command({}, "crm.deal.list.json")).toBe("crm.deal.list")
    expect(command({ id: 1 }, "crm.deal.get.json")).toBe("crm.deal.get?id=1")
    expect(command({}, "crm.deal.list.json.json")).toBe("crm.deal.list.json")
    expect(command({}, "profile")).toBe("profile")
    for (const method of ["crm.deal.list.xml", "crm.deal.list.JSON", "crm..list", ".crm", "crm.", "a?b", "a#b", ""]) {
      expect([method, command({}, method)]).toEqual([method, undefined])
    }
  })

  test("runs no batch and carries no files", () => {
    for (const method of [
      "batch",
      "Batch",
      "batch.json",
      "upload",
      "download",
      "disk.folder.uploadFile",
      "catalog.product.download",
      "note.file.add",
      "telephony.externalCall.attachRecord"
    ]) {
      expect([method, command({ a: "x" }, method)]).toEqual([method, undefined])
    }
  })

  test("is not made where a key stands twice", () => {
    expect(own('{"a":"1","a":"2"}')).toBeUndefined()
    expect(own(String.raw`{"a":"1","\u0061":"2"}`)).toBeUndefined()
    expect(own('{"a":{"b":"1","b":"2"}}')).toBeUndefined()
    expect(own('{"a":{"b":"1"},"b":"2"}')).toBeDefined()
  })

  test("takes keys that mean something to JavaScript for plain ones", () => {
    expect(own('{"__proto__":"a","constructor":{"__proto__":"b"}}')).toBe(
      "erp.order.push?__proto__=a&constructor%5B__proto__%5D=b"
    )
    expect(command({ id: true }, "constructor")).toBeUndefined()
  })

  test("is made of anything or not at all, and never throws", () => {
    const texts = fc.oneof(
      fc.string({ unit: "binary" }),
      fc
        .array(fc.constantFrom("{", "}", "[", "]", ",", ":", '"', "\\", '"a"', "1", "true", " ", "\u0001", "x"), {
          size: "max",
          maxLength: 40
        })
        .map((parts) => parts.join(""))
    )
    fc.assert(
      fc.property(texts, (text) => {
        const made = commandOf("crm.deal.list", Buffer.from(text))
        expect(made ?? "crm.deal.list").toStartWith("crm.deal.list")
      }),
      { numRuns: 5_000 }
    )
  })
})

describe("the parameters of a batch", () => {
  test("are keys that begin with a letter, and no halt", () => {
    expect(Buffer.from(pack(["crm.deal.get?id=7", "profile"])).toString()).toBe(
      '{"halt":0,"cmd":{"m0":"crm.deal.get?id=7","m1":"profile"}}'
    )
  })
})

const time = '{"start":1790000000.10,"duration":0.0,"operating":1e-7}'
const answers = (body: string, count: number) =>
  unpack(Buffer.from(body), count)?.map((member) =>
    member === undefined ? undefined : Buffer.from(member.body).toString()
  )

describe("the answer of a batch", () => {
  test("is taken apart by key, every value to its last character", () => {
    const body = `{"result":{"result":{"m1":[{"ID":"37","SUM":12345678901234567890,"X":1.10}],"m0":true,"m3":null},
      "result_error":{"m2":{"error":"","error_description":"Not \\u0022found\\u0022","argument":"x"}},
      "result_total":{"m1":120},"result_next":{"m1":50},
      "result_time":{"m0":${time},"m1":${time},"m3":${time}}},"time":${time}}`
    expect(answers(body, 5)).toEqual([
      `{"result":true,"time":${time}}`,
      `{"result":[{"ID":"37","SUM":12345678901234567890,"X":1.10}],"next":50,"total":120,"time":${time}}`,
      '{"error":"","error_description":"Not \\u0022found\\u0022","argument":"x"}',
      `{"result":null,"time":${time}}`,
      undefined
    ])
  })

  test("may hold lists where maps are empty, or lack them", () => {
    expect(answers('{"result":{"result":{"m0":1},"result_error":[],"result_total":[],"result_next":[]}}', 1)).toEqual([
      '{"result":1}'
    ])
    expect(answers('{"result":{"result":[],"result_error":{"m0":{"error":5}}}}', 2)).toEqual(['{"error":5}', undefined])
    expect(answers('{"result":{"result_error":[]}}', 1)).toEqual([undefined])
    // Keys of a list are positions, and none of them is a key of ours.
    expect(answers('{"result":{"result":[1,2],"result_error":[]}}', 2)).toEqual([undefined, undefined])
  })

  test("may name an error by a bare text", () => {
    expect(answers('{"result":{"result":[],"result_error":{"m0":"ERR\\"OR"}}}', 1)).toEqual([
      '{"error":"ERR\\"OR","error_description":""}'
    ])
  })

  test("says nothing of a member with an error that is none", () => {
    for (const entry of ["[]", "{}", "null", '{"code":1}', "7"]) {
      expect(answers(`{"result":{"result":[],"result_error":{"m0":${entry}}}}`, 1)).toEqual([undefined])
      expect(answers(`{"result":{"result":{"m0":8},"result_error":{"m0":${entry}}}}`, 1)).toEqual(['{"result":8}'])
    }
  })

  test("has a form, or is none", () => {
    for (const body of [
      "",
      "null",
      "[]",
      "{}",
      '"x"',
      '{"result":[]}',
      '{"result":{}}',
      '{"result":true}',
      '{"result":{"item":{"result":1}}}',
      '{"error":"QUERY_LIMIT_EXCEEDED","error_description":""}',
      '{"result":{"result":{"m0":1',
      '{"result":{"result":{"m0":1}}'
    ]) {
      expect([body, answers(body, 1)]).toEqual([body, undefined])
    }
  })

  const spaces = fc.constantFrom("", "", "", " ", "\n  ", "\t")
  const scalars = fc.oneof(
    fc.constantFrom(
      "null",
      "true",
      "false",
      "0",
      "-0",
      "1.10",
      "1E400",
      "12345678901234567890",
      '""',
      '"\\\\"',
      '"\\""'
    ),
    fc.string({ unit: "binary", maxLength: 20 }).map((text) => JSON.stringify(text)),
    fc.constantFrom('"\\u0416\\ud83d\\ude00"', '"]},{[:,"', '"\\\\\\"]"', '"m0"', '"result"')
  )
  /** JSON text in any spelling: `JSON.stringify` would write it in one only. */
  const { json } = fc.letrec<{ json: string }>((tie) => ({
    json: fc.oneof(
      { maxDepth: 4, depthSize: "small" },
      scalars,
      fc
        .tuple(fc.array(tie("json"), { maxLength: 5 }), spaces)
        .map(([items, space]) => `[${space}${items.join(`,${space}`)}${space}]`),
      fc
        .tuple(
          fc.array(
            fc.tuple(
              scalars.filter((text) => text.startsWith('"')),
              tie("json")
            ),
            { maxLength: 5 }
          ),
          spaces
        )
        .map(
          ([entries, space]) =>
            `{${space}${entries.map(([key, value]) => `${key}${space}:${value}`).join(`${space},`)}}`
        )
    )
  }))
  const member = fc.record({
    result: fc.option(json, { nil: undefined }),
    error: fc.option(
      fc.tuple(scalars, scalars).map(([code, text]) => `{"error":${code},"error_description":${text}}`),
      { nil: undefined, freq: 3 }
    ),
    total: fc.option(fc.constantFrom("0", "128"), { nil: undefined }),
    next: fc.option(fc.constant("50"), { nil: undefined }),
    time: fc.option(fc.constant(time), { nil: undefined, freq: 9 })
  })
  type Member = typeof member extends fc.Arbitrary<infer A> ? A : never
  const names = ["result", "error", "total", "next", "time"] as const

  /** The answer of a portal, with its maps in any order and their keys too. */
  const written = (members: ReadonlyArray<Member>, order: ReadonlyArray<number>, turned: boolean, space: string) => {
    const maps = names.map((name) => {
      const entries = members.flatMap((one, at) => (one[name] === undefined ? [] : [`"m${at}":${space}${one[name]}`]))
      const body = entries.length === 0 ? "[]" : `{${(turned ? entries.toReversed() : entries).join(`,${space}`)}}`
      return `"${name === "result" ? name : `result_${name}`}"${space}:${body}`
    })
    return `{"time":${time},${space}"result":{${order.map((at) => maps[at] ?? "").join(`,${space}`)}}${space}}`
  }

  const expected = ({ result, error, total, next, time }: Member) => {
    if (error !== undefined) return error
    if (result === undefined) return undefined
    const field = (name: string, value: string | undefined) => (value === undefined ? "" : `,"${name}":${value}`)
    return `{"result":${result}${field("next", next)}${field("total", total)}${field("time", time)}}`
  }

  const order = fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: 5 })

  test("gives every member its own, in order", () => {
    fc.assert(
      fc.property(
        fc.array(member, { size: "max", maxLength: 50 }),
        order,
        fc.boolean(),
        spaces,
        (members, order, turned, space) => {
          const body = written(members, order, turned, space)
          expect(answers(body, members.length)).toEqual(members.map(expected))
          for (const one of unpack(Buffer.from(body), members.length) ?? [])
            if (one !== undefined) expect(judgeMember(200, one)).toEqual(judge(200, one.body))
        }
      ),
      { numRuns: 500 }
    )
  })

  test("cut short is none, and nothing is thrown", () => {
    fc.assert(
      fc.property(
        fc.array(member, { size: "max", maxLength: 5 }),
        order,
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (members, order, part) => {
          const body = written(members, order, false, "")
          expect(answers(body.slice(0, Math.floor(part * body.length)), 5)).toBeUndefined()
        }
      ),
      { numRuns: 3_000 }
    )
  })

  test("is taken apart or not, whatever it is", () => {
    fc.assert(
      fc.property(json, (text) => {
        const found = answers(text, 2)
        expect(found === undefined || found.length === 2).toBe(true)
      }),
      { numRuns: 3_000 }
    )
  })

  test("goes back to the commands that were packed, each in its place", () => {
    const commands = fc.array(
      fc.string({ unit: "grapheme", maxLength: 30 }).map((text) => `my.echo?a=${encodeURIComponent(text)}`),
      { size: "max", maxLength: mostCommands }
    )
    const lengths = new Set<number>()
    fc.assert(
      fc.property(commands, (commands) => {
        lengths.add(commands.length)
        const { cmd, halt } = JSON.parse(Buffer.from(pack(commands)).toString())
        expect(halt).toBe(0)
        expect(Object.values(cmd)).toEqual([...commands])
        // A portal that answers every command with itself.
        const body = JSON.stringify({ result: { result: commands.length === 0 ? [] : cmd, result_error: [] } })
        expect(answers(body, commands.length)).toEqual(commands.map((command) => JSON.stringify({ result: command })))
      }),
      { numRuns: 300 }
    )
    expect(lengths.size).toBeGreaterThan(40)
  })
})
