import { expect } from "bun:test"
import { Effect, Exit } from "effect"
import { Page, Refusal } from "../../../src/sandbox/portal/envelope.ts"
import { openPortal, type Portal } from "../../../src/sandbox/portal/server.ts"
import { live } from "../../effect.ts"
import { ask, call, post, result, said } from "./client.ts"

const portal = <E>(name: string, body: (portal: Portal) => Effect.Effect<unknown, E>) =>
  live(name, () => Effect.flatMap(openPortal(), body))

const form = { "content-type": "application/x-www-form-urlencoded" }
const unknownMethod = [404, { error: "ERROR_METHOD_NOT_FOUND", error_description: "Method not found!" }]
const noAuth = [401, { error: "NO_AUTH_FOUND", error_description: "Wrong authorization data" }]

portal("an address may end in a slash or in .json, and .xml asks for XML", (portal) =>
  Effect.gen(function* () {
    portal.define("my.count", () => 7)
    for (const path of ["my.count", "my.count/", "my.count.json", "My.Count"]) {
      expect(said(yield* call(portal, path))).toEqual([200, { result: 7 }])
    }
    const xml = yield* call(portal, "my.count.xml")
    expect(xml.headers.get("content-type")).toBe("text/xml; charset=utf-8")
    expect(xml.text).toContain("<result>7</result>")
    expect(said(yield* call(portal, "my.count.jsn"))).toEqual(unknownMethod)
    expect(said(yield* ask(`${portal.url}1/sandbox/`))).toEqual(unknownMethod)
    expect((yield* ask(`${portal.origin}/admin`)).text).toContain("404 Not Found")
    expect((yield* ask(`${portal.url}1/sandbox/a/b`)).status).toBe(404)
  })
)

portal("a body of JSON, of a form or of parts is read, and so is the address", (portal) =>
  Effect.gen(function* () {
    portal.define("my.params", ({ params }) => params)
    const url = `${portal.webhook()}my.params`
    expect(result(yield* post(url, { a: { b: [1, true, null] }, c: "é" }))).toEqual({
      a: { b: [1, true, null] },
      c: "é"
    })
    const fields = ask(url, { method: "POST", headers: form, body: "a[b][]=1&a[b][]=2&c.d=%D0%96+x" })
    expect(result(yield* fields)).toEqual({ a: { b: ["1", "2"] }, c_d: "Ж x" })
    const parts = new FormData()
    parts.append("a[b]", "1")
    parts.append("file", new Blob(["x"]), "x.txt")
    expect(result(yield* ask(url, { method: "POST", body: parts }))).toEqual({ a: { b: "1" } })
    expect(result(yield* ask(`${url}?a[]=1&b=2`))).toEqual({ a: ["1"], b: "2" })
    // The body wins, key by key, and takes the place that the key had in the address.
    expect((yield* post(`${url}?a=1&b[x]=2`, { b: { y: 3 }, c: 4 })).text).toContain('{"a":"1","b":{"y":3},"c":4}')
    expect(result(yield* ask(url, { method: "POST", headers: { "content-type": "text/plain" }, body: "a=1" }))).toEqual(
      { a: "1" }
    )
  })
)

portal("broken JSON is no error: the method runs without parameters", (portal) =>
  Effect.gen(function* () {
    portal.define("my.params", ({ params }) => params)
    for (const broken of ['{"a":1', '{"a":"\\ud800"}', "7", "", '{"a":1}x', "[".repeat(600) + "]".repeat(600)]) {
      expect(said(yield* call(portal, "my.params", broken))).toEqual([200, { result: [] }])
    }
    expect(portal.count("my.params")).toBe(6)
    const raw = yield* post(`${portal.webhook()}my.params`, '{"a":1}', {
      "content-type": "application/json; charset=utf-8"
    })
    expect(result(raw)).toEqual({ a: 1 })
    // Compared letter by letter: this is no JSON to the portal, but one strange name of a form.
    const odd = yield* post(`${portal.webhook()}my.params`, '{"a":1}', { "content-type": "Application/JSON" })
    expect(result(odd)).toEqual({ '{"a":1}': "" })
  })
)

portal("some names never reach a method", (portal) =>
  Effect.gen(function* () {
    portal.define("my.params", ({ params, start }) => ({ params, start }))
    const body = { start: "50x", state: 1, auth: "t", method: "m", aplogin: "a", ap: "p", kept: 1 }
    expect(result(yield* call(portal, "my.params", body))).toEqual({ params: { kept: 1 }, start: 50 })
    expect(said(yield* call(portal, "my.params", { token: "x" }))).toMatchObject([403, { error: "ACCESS_DENIED" }])
  })
)

portal("answers are written as PHP writes them", (portal) =>
  Effect.gen(function* () {
    portal.define("my.text", () => ({ t: "Ж/<b>'\"&😀", empty: {}, "2": 1, "1": 2 }))
    const { text, headers } = yield* call(portal, "my.text")
    expect(text).toContain('"t":"\\u0416\\/\\u003Cb\\u003E\\u0027\\u0022\\u0026\\ud83d\\ude00","empty":[]')
    expect(headers.get("content-type")).toBe("application/json; charset=utf-8")
    expect(headers.get("x-content-type-options")).toBe("nosniff")
    expect(headers.get("access-control-allow-origin")).toBe("*")
    for (const name of ["x-bitrix-rest-time", "x-bitrix-rest-user-time", "x-bitrix-rest-system-time"]) {
      expect(Number(headers.get(name))).toBeGreaterThanOrEqual(0)
    }
    expect(headers.has("retry-after")).toBe(false)
  })
)

portal("an echo returns the very JSON, and a raw one what came over the wire", (portal) =>
  Effect.gen(function* () {
    const body = '{"n":12345678901234567890,"f":1.50,"2":0,"1":{},"t":"Ж/"}'
    expect((yield* call(portal, "sandbox.echo", body)).text).toContain(
      '{"n":12345678901234567890,"f":1.50,"2":0,"1":{},"t":"\\u0416/"}'
    )
    const raw = yield* post(`${portal.webhook()}sandbox.raw?x=1`, body, { "x-mine": "yes" })
    expect(result(raw)).toMatchObject({
      verb: "POST",
      target: "/rest/1/sandbox/sandbox.raw?x=1",
      bytes: Buffer.byteLength(body),
      sha256: new Bun.CryptoHasher("sha256").update(body).digest("hex"),
      headers: { "x-mine": "yes" }
    })
  })
)

portal("the time block has all of its fields, and the operating ones only where the limiter is on", (portal) =>
  Effect.gen(function* () {
    const time = (json: unknown) => (json as { readonly time: Readonly<Record<string, unknown>> }).time
    const off = time((yield* call(portal, "server.time")).json)
    expect(Object.keys(off)).toEqual(["start", "finish", "duration", "processing", "date_start", "date_finish"])
    expect(off["date_start"]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+03:00$/)
    portal.limit("cloud")
    const on = time((yield* call(portal, "server.time")).json)
    expect(on["operating"]).toBe(0)
    expect(on["operating_reset_at"]).toBeGreaterThan(Date.now() / 1000 + 590)
    expect((yield* call(portal, "crm.deal.get", {})).json).not.toHaveProperty("time")
  })
)

portal("a text that is no UTF-8 makes the answer unreadable, though the method has run", (portal) =>
  Effect.gen(function* () {
    const answer = yield* ask(`${portal.webhook()}sandbox.echo`, { method: "POST", headers: form, body: "a=%ff" })
    expect(answer.json).toMatchObject({ error: "WRONG_ENCODING" })
    expect(portal.count("sandbox.echo")).toBe(1)
  })
)

portal("an application gives its token in the body, the address or a header", (portal) =>
  Effect.gen(function* () {
    const url = `${portal.url}server.time`
    expect(said(yield* post(url, {}))).toEqual(noAuth)
    expect(said(yield* post(`${portal.url}no.such`, {}))).toEqual(unknownMethod)
    expect((yield* post(url, { auth: "t1" })).status).toBe(200)
    expect((yield* ask(`${url}?auth=t1`)).status).toBe(200)
    expect((yield* post(url, {}, { authorization: "Bearer t1" })).status).toBe(200)
    portal.credential("t1", "expired")
    expect(said(yield* post(url, { auth: "t1" }))).toMatchObject([401, { error: "expired_token" }])
    expect((yield* post(url, { auth: "t2" })).status).toBe(200)
  })
)

portal("everything that can be wrong with a credential, in both revisions of the vendor's page", (portal) =>
  Effect.gen(function* () {
    const cases = [
      ["revoked", "INVALID_CREDENTIALS", 401, 403],
      ["expired", "expired_token", 401, 401],
      ["dismissed", "authorization_error", 401, 401],
      ["tariff", "ACCESS_DENIED", 401, 403],
      ["overload", "OVERLOAD_LIMIT", 401, 503],
      ["deleted", "PORTAL_DELETED", 403, 500]
    ] as const
    for (const [standing, error, later, earlier] of cases) {
      portal.credential("1/sandbox", standing)
      for (const [revision, status] of [
        ["later", later],
        ["earlier", earlier]
      ] as const) {
        portal.answerAs(revision)
        expect(said(yield* call(portal, "server.time"))).toMatchObject([status, { error }])
        expect(said(yield* call(portal, "batch", { cmd: { m0: "server.time" } }))).toMatchObject([status, { error }])
      }
      expect((yield* post(`${portal.webhook(2)}server.time`, {})).status).toBe(200)
    }
    portal.reset()
    expect((yield* call(portal, "server.time")).status).toBe(200)
  })
)

portal("a credential may be good for some scopes only, or unknown", (portal) =>
  Effect.gen(function* () {
    portal.credential("1/sandbox", { scope: ["task"] })
    expect((yield* call(portal, "tasks.task.list")).status).toBe(200)
    expect((yield* call(portal, "server.time")).status).toBe(200)
    expect(said(yield* call(portal, "crm.deal.list"))).toMatchObject([401, { error: "insufficient_scope" }])
    portal.acceptOnlyKnown()
    expect((yield* post(`${portal.webhook(2)}server.time`, {})).status).toBe(401)
    portal.reset()
    expect(said(yield* post(`${portal.url}x/sandbox/server.time`, {}))).toMatchObject([
      401,
      { error: "INVALID_CREDENTIALS" }
    ])
    expect(said(yield* post(`${portal.url}1/sand-box/server.time`, {}))).toMatchObject([
      401,
      { error: "INVALID_CREDENTIALS" }
    ])
    portal.credential("*", "deleted")
    expect(said(yield* call(portal, "no.such"))).toMatchObject([403, { error: "PORTAL_DELETED" }])
  })
)

portal("a method of one's own returns a value, a page, a refusal or an error at 200, or throws", (portal) =>
  Effect.gen(function* () {
    portal.define("my.value", () => Promise.resolve({ a: 1 }))
    portal.define("my.page", () => new Page([1], 7, 50))
    portal.define("my.lifted", () => ({ rows: [1], total: 3 }))
    portal.define("my.refusal", () => new Refusal(409, 200040300010, "no", { argument: "x" }))
    portal.define("my.error", () => ({ error: "E", error_description: "d", more: 1 }))
    portal.define("my.throw", () => {
      throw new Error("out of memory")
    })
    expect(said(yield* call(portal, "my.value"))).toEqual([200, { result: { a: 1 } }])
    expect(said(yield* call(portal, "my.page"))).toEqual([200, { result: [1], next: 50, total: 7 }])
    expect(said(yield* call(portal, "my.lifted"))).toEqual([200, { result: { rows: [1] }, total: 3 }])
    expect(said(yield* call(portal, "my.refusal"))).toEqual([
      409,
      { error: 200040300010, error_description: "no", argument: "x" }
    ])
    expect(said(yield* call(portal, "my.error"))).toEqual([200, { error: "E", error_description: "d", more: 1 }])
    expect(said(yield* call(portal, "my.throw"))).toMatchObject([500, { error: "INTERNAL_SERVER_ERROR" }])
    portal.reset()
    expect(said(yield* call(portal, "my.value"))).toEqual(unknownMethod)
  })
)

portal("executions are logged and counted, doubles and refusals too", (portal) =>
  Effect.gen(function* () {
    const add = (origin: string) => call(portal, "crm.deal.add", { fields: { TITLE: "t", ORIGIN_ID: origin } })
    yield* Effect.all([add("a"), add("b"), add("a"), add("a")], { concurrency: 4 })
    yield* call(portal, "crm.deal.list", { filter: { ORIGIN_ID: "a" } })
    yield* call(portal, "crm.deal.get", { id: 99 })
    yield* call(portal, "batch", { cmd: { m0: "crm.deal.add?fields[ORIGIN_ID]=b" } })
    expect(portal.count("crm.deal.add", "a")).toBe(3)
    expect(portal.doubles()).toEqual([
      { method: "crm.deal.add", key: "a", count: 3 },
      { method: "crm.deal.add", key: "b", count: 2 }
    ])
    expect(portal.count("crm.deal.get")).toBe(0)
    expect(portal.refusals.get("")).toBe(1)
    expect(portal.executions.at(-1)).toMatchObject({
      user: "1",
      secret: "sandbox",
      method: "crm.deal.add",
      key: "b",
      write: true
    })
    expect(portal.count()).toBe(6)
    expect(portal.requests).toBe(7)
    portal.reset()
    expect([portal.count(), portal.executions.length, portal.doubles().length, portal.requests]).toEqual([0, 0, 0, 0])
  })
)

live("a mistake in what a test gave the portal is answered, not swallowed", () =>
  Effect.gen(function* () {
    const portal = yield* openPortal({
      key: () => {
        throw new Error("my own mistake")
      }
    })
    for (const latency of [0, 1]) {
      portal.latency(latency)
      const answer = yield* call(portal, "server.time")
      expect(answer.status).toBe(500)
      expect(answer.text).toContain("the simulated portal failed: Error: my own mistake")
    }
  })
)

live("by what executions are told apart can be chosen", () =>
  Effect.gen(function* () {
    const byBody = yield* openPortal({ key: "body" })
    const byRule = yield* openPortal({ key: (method) => method.slice(0, 3) })
    for (const portal of [byBody, byRule]) {
      yield* call(portal, "crm.deal.add", { fields: { TITLE: "a" } })
      yield* call(portal, "crm.deal.add", { fields: { TITLE: "b" } })
    }
    expect(byBody.doubles()).toEqual([])
    expect(byRule.doubles()).toEqual([{ method: "crm.deal.add", key: "crm", count: 2 }])
  })
)

live("what is kept is bounded", () =>
  Effect.gen(function* () {
    const portal = yield* openPortal({ keep: 3 })
    for (let at = 0; at < 5; at++) yield* call(portal, "crm.deal.add", { fields: { TITLE: `t${at}` } })
    expect(portal.executions.map(({ key }) => key)).toEqual(["t2", "t3", "t4"])
    expect(portal.crm.table("deal").size).toBe(3)
    expect([portal.count("crm.deal.add"), portal.uncounted]).toEqual([5, 2])
  })
)

portal("calls take as long as is said, and the most at once are counted", (portal) =>
  Effect.gen(function* () {
    portal.latency({ "server.time": 60, "*": 5 })
    const calls = Effect.all(
      Array.from({ length: 8 }, () => call(portal, "server.time")),
      { concurrency: 8 }
    )
    const [answers] = yield* Effect.all([calls, portal.until(({ inFlight }) => inFlight === 8)], { concurrency: 2 })
    expect(portal.maxInFlight).toBe(8)
    for (const { json } of answers)
      expect((json as { time: { processing: number } }).time.processing).toBeGreaterThan(0.055)
    expect(portal.inFlight).toBe(0)
  })
)

live("a port that is taken is an error that names it, and a closed scope frees it", () =>
  Effect.gen(function* () {
    const port = yield* Effect.scoped(
      Effect.gen(function* () {
        const first = yield* openPortal()
        const second = yield* Effect.exit(openPortal({ port: first.port }))
        expect(String(Exit.isFailure(second) ? second.cause : "")).toContain(`cannot listen on 127.0.0.1:${first.port}`)
        return first.port
      })
    )
    expect((yield* openPortal({ port })).port).toBe(port)
  })
)
