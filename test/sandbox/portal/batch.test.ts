import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal, type Portal } from "../../../src/sandbox/portal/server.ts"
import { live } from "../../effect.ts"
import { ask, call, result } from "./client.ts"

const portal = <E>(name: string, body: (portal: Portal) => Effect.Effect<unknown, E>) =>
  live(name, () =>
    Effect.flatMap(openPortal(), (portal) => {
      portal.define("my.params", ({ params }) => params, { write: false })
      return body(portal)
    })
  )

interface Maps {
  readonly result: unknown
  readonly result_error: unknown
  readonly result_total: unknown
  readonly result_next: unknown
  readonly result_time: unknown
}

/** Sends a batch and takes its five maps out of the answer. */
const batch = (portal: Portal, body: unknown) =>
  Effect.map(call(portal, "batch", body), (answer) => result(answer) as Maps)

portal("each of the five maps is a list or an object by its own keys", (portal) =>
  Effect.gen(function* () {
    portal.crm.table("deal").add({ TITLE: "a" })
    const numbered = yield* batch(portal, { cmd: { 0: "my.params?a=0", 1: "my.params?a=1" } })
    expect(numbered).toMatchObject({
      result: [{ a: "0" }, { a: "1" }],
      result_error: [],
      result_total: [],
      result_next: []
    })
    expect(Array.isArray(numbered.result_time)).toBe(true)
    // One map a list, its neighbour an object: the failing first command leaves key 1 alone in `result`.
    const mixed = yield* batch(portal, { cmd: ["crm.deal.get?id=0", "crm.deal.list"] })
    expect(mixed.result).toEqual({ "1": [expect.objectContaining({ ID: "1" })] })
    expect(mixed.result_error).toMatchObject([{ error: "" }])
    expect(mixed.result_total).toEqual({ "1": 1 })
    const disordered = yield* call(portal, "batch", '{"cmd":{"1":"my.params?a=1","0":"my.params?a=0"}}')
    expect(disordered.text).toContain('"result":{"1":{"a":"1"},"0":{"a":"0"}}')
    const empty = yield* batch(portal, { cmd: [] })
    expect(empty).toEqual({ result: [], result_error: [], result_total: [], result_next: [], result_time: [] })
  })
)

portal("commands are read as PHP reads an address", (portal) =>
  Effect.gen(function* () {
    const { result } = yield* batch(portal, {
      cmd: {
        m0: "my.params?a=%2B+%D0%96&b[]=1&b[]=2&c.d=1#e=5",
        m1: "MY.Params?fields%5B%25TITLE%5D=%26%3D",
        m2: "my.params?n=null&f=false",
        m3: "my.params?e"
      }
    })
    expect(result).toEqual({
      m0: { a: "+ Ж", b: ["1", "2"], c_d: "1" },
      m1: { fields: { "%TITLE": "&=" } },
      m2: { n: "null", f: "false" },
      m3: { e: "" }
    })
  })
)

portal("more than a thousand leaves and more than sixty-four levels are cut off in silence", (portal) =>
  Effect.gen(function* () {
    const many = Array.from({ length: 1100 }, (_, at) => `a[]=${at}`).join("&")
    const { result } = yield* batch(portal, {
      cmd: { m0: `my.params?${many}`, m1: `my.params?x=1&a${"[b]".repeat(70)}=1` }
    })
    expect(result).toMatchObject({ m1: { x: "1" } })
    expect((result as { m0: { a: unknown } }).m0.a).toHaveLength(1000)
  })
)

portal("a form may hold a batch, then encoded twice", (portal) =>
  Effect.gen(function* () {
    const answer = yield* ask(`${portal.webhook()}batch`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: `HALT=0&CMD[m0]=${encodeURIComponent("my.params?a=%26")}`
    })
    expect(result(answer)).toMatchObject({ result: { m0: { a: "&" } } })
  })
)

portal("earlier results are put in after decoding", (portal) =>
  Effect.gen(function* () {
    for (const title of ["a", "b"]) portal.crm.table("deal").add({ TITLE: title })
    const list = "crm.deal.list?select[]=ID&select[]=TITLE"
    const { result } = yield* batch(portal, {
      cmd: {
        l: list,
        whole: "my.params?a=$result[l][1]",
        field: "my.params?a=$result[l][1][TITLE]",
        encoded: "my.params?a=%24result%5Bl%5D%5B0%5D%5BID%5D",
        text: "my.params?a=id:$result[l][0][ID]",
        spaced: "my.params?a=see+$result[l][0][ID]+and+$result[l][1][ID]",
        array: "my.params?a=no:$result[l]",
        total: "my.params?a=$total[l]",
        lost: "my.params?a=$result[l][9][ID]",
        loud: "my.params?a=$RESULT[l][0][ID]",
        deep: "my.params?a[b][]=$result[l][0][ID]",
        bare: "my.params?a=$result"
      }
    })
    const all = [
      { ID: "1", TITLE: "a" },
      { ID: "2", TITLE: "b" }
    ]
    expect(result).toMatchObject({
      whole: { a: all[1] },
      field: { a: "b" },
      encoded: { a: "1" },
      text: { a: "id:1" },
      spaced: { a: "see 1 and 2" },
      // Inside a text an array is not put in, and the reference stays.
      array: { a: "no:$result[l]" },
      total: { a: 2 },
      // A path that leads nowhere ends at what it had found.
      lost: { a: all },
      // The word is matched in any case, but known in lower case only.
      loud: { a: null },
      deep: { a: { b: ["1"] } },
      bare: { a: "$result" }
    })
  })
)

portal("a failing command stops the batch with halt, and not without", (portal) =>
  Effect.gen(function* () {
    const cmd = { a: "crm.deal.add?fields[TITLE]=a", b: "no.such.method", c: "crm.deal.add?fields[TITLE]=c" }
    for (const [halt, ran] of [
      [1, 1],
      ["1", 1],
      [true, 1],
      [0, 2],
      ["0", 2],
      [undefined, 2]
    ] as const) {
      portal.reset()
      const { result_error } = yield* batch(portal, { halt, cmd })
      expect(result_error).toEqual({ b: { error: "ERROR_METHOD_NOT_FOUND", error_description: "Method not found!" } })
      expect(portal.count("crm.deal.add")).toBe(ran)
    }
  })
)

portal("fifty commands run, the others are refused one by one", (portal) =>
  Effect.gen(function* () {
    const cmd = Object.fromEntries(
      Array.from({ length: 53 }, (_, at) => [`m${at}`, `crm.deal.add?fields[TITLE]=${at}`])
    )
    const { result, result_error } = yield* batch(portal, { cmd })
    expect(Object.keys(result as object)).toHaveLength(50)
    expect(Object.keys(result_error as object)).toEqual(["m50", "m51", "m52"])
    expect(result_error).toMatchObject({ m52: { error: "ERROR_BATCH_LENGTH_EXCEEDED" } })
    expect(portal.count("crm.deal.add")).toBe(50)
  })
)

portal("some methods are not for a batch, and what is no text is skipped without a trace", (portal) =>
  Effect.gen(function* () {
    const cmd = {
      a: "batch?cmd[]=server.time",
      b: "upload",
      c: 7,
      d: { method: "server.time" },
      e: null,
      f: "server.time"
    }
    const { result, result_error } = yield* batch(portal, { cmd })
    expect(Object.keys(result as object)).toEqual(["f"])
    expect(result_error).toMatchObject({
      a: { error: "ERROR_BATCH_METHOD_NOT_ALLOWED" },
      b: { error: "ERROR_BATCH_METHOD_NOT_ALLOWED" }
    })
    expect(Object.keys(result_error as object)).toEqual(["a", "b"])
  })
)

portal("null is a result, errors keep their extra keys, and paging is told by command", (portal) =>
  Effect.gen(function* () {
    portal.define("my.null", () => null)
    portal.define("my.error", () => ({ error: "E", error_description: "", argument: "x" }))
    for (let at = 0; at < 60; at++) portal.crm.table("deal").add({ TITLE: "t" })
    const { result, result_error, result_next, result_total, result_time } = yield* batch(portal, {
      cmd: { n: "my.null", e: "my.error", l: "crm.deal.list?start=0", p: "crm.deal.list?start=50" }
    })
    expect(result).toMatchObject({ n: null })
    expect(result_error).toEqual({ e: { error: "E", error_description: "", argument: "x" } })
    expect(result_next).toEqual({ l: 50 })
    expect(result_total).toEqual({ l: 60, p: 60 })
    expect(Object.keys(result_time as object)).toEqual(["n", "l", "p"])
  })
)

portal("commands run one after another and each costs its own time", (portal) =>
  Effect.gen(function* () {
    portal.latency({ "server.time": 20 })
    const cmd = { a: "server.time", b: "server.time", c: "server.time" }
    const answer = yield* call(portal, "batch", { cmd })
    expect((answer.json as { time: { processing: number } }).time.processing).toBeGreaterThan(0.055)
  })
)
