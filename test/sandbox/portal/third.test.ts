import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal, type Portal } from "../../../src/sandbox/portal/server.ts"
import { live } from "../../effect.ts"
import { ask, call, callThird, post, result, said } from "./client.ts"

const portal = <E>(name: string, body: (portal: Portal) => Effect.Effect<unknown, E>) =>
  live(name, () => Effect.flatMap(openPortal(), body))

const code = (name: string) => ({ error: { code: `BITRIX_REST_V3_EXCEPTION_${name}EXCEPTION` } })
const task = { title: "Позвонить", responsibleId: 6, creatorId: 1 }

portal("20: a key makes a call safe to repeat", (portal) =>
  Effect.gen(function* () {
    const key = { "idempotency-key": "m-20" }
    const add = (fields: object, headers = key) => callThird(portal, "tasks.task.add", { fields }, headers)
    const first = yield* add(task)
    expect(said(first)).toMatchObject([200, { result: { item: { id: 1, title: "Позвонить", responsibleId: 6 } } }])
    expect([first.headers.get("idempotency-key"), first.headers.get("idempotent-replayed")]).toEqual(["m-20", null])
    const again = yield* add(task)
    expect([again.status, again.text]).toEqual([200, first.text])
    expect([again.headers.get("idempotency-key"), again.headers.get("idempotent-replayed")]).toEqual(["m-20", "true"])
    expect(portal.count("tasks.task.add")).toBe(1)
    expect(said(yield* add({ ...task, title: "Другое" }))).toMatchObject([422, code("IDEMPOTENCYKEYREUSED")])
    for (const bad of ["", "x".repeat(256), "ключ"]) {
      const answer = yield* callThird(portal, "tasks.task.add", { fields: task }, { "idempotency-key": encodeBad(bad) })
      expect(said(answer)).toMatchObject([400, code("INVALIDIDEMPOTENCYKEY")])
    }
    expect((yield* add(task, { "idempotency-key": "x".repeat(255) })).status).toBe(200)
    expect(portal.count("tasks.task.add")).toBe(2)
  })
)

// A header holds Latin-1 only.
const encodeBad = (key: string): string => Buffer.from(key, "utf8").toString("latin1")

portal("a key is one method's, one credential's, and of successes only", (portal) =>
  Effect.gen(function* () {
    const key = { "idempotency-key": "k" }
    const wrong = yield* callThird(portal, "tasks.task.add", { fields: {} }, key)
    expect(said(wrong)).toMatchObject([
      400,
      { error: { ...code("VALIDATION_REQUESTVALIDATION").error, validation: [{ field: "title" }] } }
    ])
    expect((yield* callThird(portal, "tasks.task.add", { fields: task }, key)).status).toBe(200)
    const other = yield* post(`${portal.origin}/rest/api/2/sandbox/tasks.task.add`, { fields: task }, key)
    expect(other.headers.has("idempotent-replayed")).toBe(false)
    const update = { id: 1, fields: { title: "b" } }
    expect(said(yield* callThird(portal, "tasks.task.update", update, key))).toEqual([
      200,
      { result: { result: true } }
    ])
    // A read needs no key, and takes no notice of one.
    const read = yield* callThird(portal, "tasks.task.get", { id: 1 }, key)
    expect([read.status, read.headers.has("idempotency-key")]).toEqual([200, false])
  })
)

portal("the second version takes no notice of a key", (portal) =>
  Effect.gen(function* () {
    for (let at = 0; at < 2; at++) {
      yield* post(`${portal.webhook()}tasks.task.add`, { fields: { TITLE: "a" } }, { "idempotency-key": "k" })
    }
    expect(portal.count("tasks.task.add")).toBe(2)
  })
)

portal("two calls with one key at the same time both run", (portal) =>
  Effect.gen(function* () {
    portal.latency(30)
    const add = callThird(portal, "tasks.task.add", { fields: task }, { "idempotency-key": "k" })
    yield* Effect.all([add, add], { concurrency: 2 })
    expect(portal.count("tasks.task.add")).toBe(2)
  })
)

portal("tasks are read, listed, changed and deleted", (portal) =>
  Effect.gen(function* () {
    for (let at = 1; at <= 60; at++) portal.crm.table("task").add({ TITLE: `t${at}`, STATUS: "2" })
    expect(result(yield* callThird(portal, "tasks.task.get", { id: 2, select: ["id", "title", "nope"] }))).toEqual({
      item: { id: 2, title: "t2" }
    })
    const list = (body: object) =>
      Effect.map(
        callThird(portal, "tasks.task.list", body),
        (answer) => (result(answer) as { items: ReadonlyArray<unknown> }).items
      )
    expect(yield* list({ filter: [["id", "in", [3, 4]]] })).toEqual([{ id: 3 }, { id: 4 }])
    expect(yield* list({ filter: [["id", 5]], select: ["status"] })).toEqual([{ status: "pending" }])
    expect(yield* list({ filter: [["id", "between", [7, 8]]], order: { id: "DESC" } })).toEqual([{ id: 8 }, { id: 7 }])
    expect(yield* list({ pagination: { limit: 1000 } })).toHaveLength(50)
    expect(yield* list({ pagination: { page: 2, limit: 10 } })).toHaveLength(10)
    const refused = (body: object) => Effect.map(callThird(portal, "tasks.task.list", body), said)
    expect(yield* refused({ filter: [["id", "~", 1]] })).toMatchObject([400, code("UNKNOWNFILTEROPERATOR")])
    expect(yield* refused({ filter: [["title", "a"]] })).toMatchObject([400, code("VALIDATION_REQUESTVALIDATION")])
    expect(yield* refused({ pagination: { limit: "abc" } })).toMatchObject([400, code("INVALIDPAGINATION")])
    expect(said(yield* callThird(portal, "tasks.task.delete", { id: 1 }))).toEqual([200, { result: { result: true } }])
    expect(said(yield* callThird(portal, "tasks.task.get", { id: 1 }))).toMatchObject([400, code("ENTITYNOTFOUND")])
  })
)

portal("only JSON is read, and nothing from the address", (portal) =>
  Effect.gen(function* () {
    portal.crm.table("task").add({ TITLE: "a" })
    const url = `${portal.origin}/rest/api/1/sandbox/tasks.task.get`
    const form = { "content-type": "application/x-www-form-urlencoded" }
    expect(said(yield* ask(url, { method: "POST", headers: form, body: "id=1" }))).toMatchObject([
      400,
      code("INVALIDJSON")
    ])
    expect(said(yield* post(url, '{"id":1'))).toMatchObject([400, code("INVALIDJSON")])
    expect(said(yield* ask(`${url}?id=1`))).toMatchObject([400, code("VALIDATION_REQUESTVALIDATION")])
    expect((yield* ask(`${portal.origin}/rest/api/1/sandbox/rest.documentation.openapi`)).json).toMatchObject({
      openapi: "3.0.0",
      paths: { "/tasks.task.add": [] }
    })
  })
)

portal("what the third version has not is not found, and a suffix is a part of the name", (portal) =>
  Effect.gen(function* () {
    for (const method of ["crm.deal.add", "tasks.task.get.json"]) {
      expect(said(yield* callThird(portal, method, { id: 1 }))).toMatchObject([404, code("METHODNOTFOUND")])
    }
    expect(said(yield* call(portal, "rest.scope.list"))).toMatchObject([404, { error: "ERROR_METHOD_NOT_FOUND" }])
  })
)

portal("scopes and tokens", (portal) =>
  Effect.gen(function* () {
    portal.credential("1/sandbox", { scope: ["crm"] })
    expect(said(yield* callThird(portal, "tasks.task.list"))).toMatchObject([403, code("INSUFFICIENTSCOPE")])
    const url = `${portal.origin}/rest/api/tasks.task.list`
    expect((yield* post(url, { auth: "t" })).status).toBe(200)
    expect((yield* post(url, {})).status).toBe(401)
  })
)

portal("a batch is a list of calls, answered by position or refused as a whole", (portal) =>
  Effect.gen(function* () {
    for (const title of ["a", "b"]) portal.crm.table("task").add({ TITLE: title })
    const get = (id: number) => ({ method: "tasks.task.get", query: { id, select: ["title"] } })
    expect(result(yield* callThird(portal, "batch", [get(2), get(1)]))).toEqual([
      { item: { title: "b" } },
      { item: { title: "a" } }
    ])
    const add = { method: "tasks.task.add", query: { fields: task } }
    expect(said(yield* callThird(portal, "batch", [add, get(9), add]))).toMatchObject([400, code("ENTITYNOTFOUND")])
    expect(portal.count("tasks.task.add")).toBe(1)
    expect(said(yield* callThird(portal, "batch", { cmd: { a: "tasks.task.list" } }))).toMatchObject([
      400,
      code("INVALIDSELECT")
    ])
  })
)

portal("a method that is blocked for its time, and one of the portal's own", (portal) =>
  Effect.gen(function* () {
    portal.limit({ operating: { limit: 1, cost: { "tasks.task.list": 2 } } })
    expect((yield* callThird(portal, "tasks.task.list")).json).toMatchObject({
      time: { operating: expect.any(Number) }
    })
    expect(said(yield* callThird(portal, "tasks.task.list"))).toMatchObject([429, code("RATELIMIT")])
    portal.define("my.v3", ({ params }) => ({ items: [params] }), { version: 3 })
    expect(result(yield* callThird(portal, "my.v3", { a: 1 }))).toEqual({ items: [{ a: 1 }] })
  })
)
