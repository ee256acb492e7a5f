import { expect } from "bun:test"
import { Effect } from "effect"
import { request } from "node:http"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { temporaryFolder } from "../rig/child.ts"
import { freePort } from "../rig/ports.ts"
import { declareQueues } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"

interface Seen {
  readonly status: number
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
  readonly body: string
}

/** Plain Node, for it sends any Host. */
const ask = (port: number, path: string, headers: Readonly<Record<string, string>> = {}, method = "GET") =>
  Effect.callback<Seen>((resume) => {
    const asked = request({ host: "127.0.0.1", port, path, method, headers }, (response) => {
      let body = ""
      response.setEncoding("utf8")
      response.on("data", (text) => (body += text))
      response.on("end", () =>
        resume(Effect.succeed({ status: response.statusCode ?? 0, headers: response.headers, body }))
      )
    })
    asked.on("error", (error) => resume(Effect.die(error)))
    asked.end()
    return Effect.sync(() => void asked.destroy())
  })

const start = Effect.fnUntraced(function* (env: Readonly<Record<string, string>> = {}) {
  const broker = yield* vhost
  const portal = yield* openPortal()
  yield* declareQueues(broker.url, { in: "bitrix24in", out: "bitrix24out" })
  const port = yield* freePort
  const bridge = yield* startBridge({
    env: { AMPQURL: broker.url, B24REST: portal.url, B24RMQ_HTTP: `127.0.0.1:${port}`, ...env }
  })
  yield* bridge.waitForLine("http-open")
  return { bridge, port }
})

live("the address for readers only reads, and only those who call this machine by its own name", () =>
  Effect.gen(function* () {
    const { bridge, port } = yield* start()
    for (const path of ["/status", "/health", "/ready", "/history"]) {
      const { status, headers, body } = yield* ask(port, path)
      expect([path, status]).toEqual([path, 200])
      expect(headers["content-security-policy"]).toStartWith("default-src 'none'; ")
      expect(headers).toMatchObject({ "x-content-type-options": "nosniff", "cache-control": "no-store" })
      expect(() => JSON.parse(body)).not.toThrow()
    }
    for (const host of ["127.0.0.1", "localhost:1234", "[::1]:8024"])
      expect((yield* ask(port, "/health", { host })).status).toBe(200)
    for (const host of ["evil.example", "127.0.0.1.evil.example", "192.168.1.5:8024"])
      expect([host, (yield* ask(port, "/status", { host })).status]).toEqual([host, 421])
    // What steers is not even there.
    for (const path of ["/pause", "/resume", "/set", "/call"])
      expect((yield* ask(port, path, {}, "POST")).status).toBe(405)
    for (const path of ["/find/x", "/diag", "/pause", "/nothing"]) expect((yield* ask(port, path)).status).toBe(404)
    expect(bridge.lines().some(({ event }) => event === "paused")).toBe(false)
  })
)

live("events come each second to a bounded number of listeners", () =>
  Effect.gen(function* () {
    const { port } = yield* start()
    const opened: Array<{ readonly status: number; readonly events: () => number; readonly close: () => void }> = []
    const listen = Effect.callback<void>((resume) => {
      const asked = request({ host: "127.0.0.1", port, path: "/events" }, (response) => {
        let text = ""
        response.setEncoding("utf8").on("data", (more) => (text += more))
        response.on("error", () => undefined)
        opened.push({
          status: response.statusCode ?? 0,
          events: () => text.split("\n\n").length - 1,
          close: () => void asked.destroy()
        })
        resume(Effect.void)
      })
      asked.on("error", () => undefined)
      asked.end()
    })
    for (let n = 0; n < 16; n++) yield* listen
    expect(opened.every(({ status }) => status === 200)).toBe(true)
    expect((yield* ask(port, "/events")).status).toBe(503)
    yield* until(
      "each has two events",
      Effect.sync(() => opened.every(({ events }) => events() >= 2))
    )
    opened[0]?.close()
    yield* until(
      "there is room again",
      Effect.andThen(
        listen,
        Effect.sync(() => opened.at(-1)?.status === 200)
      ),
      {
        every: "50 millis"
      }
    )
    for (const { close } of opened) close()
  })
)

live("where there is a password, only those who know it read", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("password")
    yield* Effect.promise(() => Bun.write(`${folder}/password`, "correct horse\n"))
    const { port } = yield* start({ B24RMQ_HTTP_PASSWORD_FILE: `${folder}/password` })
    const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString("base64")}` })
    for (const headers of [
      {},
      basic("admin:wrong"),
      basic("correct horse"),
      basic("admin:"),
      { authorization: "Bearer x" }
    ]) {
      const { status, headers: answered } = yield* ask(port, "/status", headers)
      expect(status).toBe(401)
      expect(answered["www-authenticate"]).toStartWith("Basic ")
    }
    expect((yield* ask(port, "/status", basic("admin:correct horse"))).status).toBe(200)
    expect((yield* ask(port, "/status", { ...basic("any:correct horse"), host: "bridge.example" })).status).toBe(200)
  })
)
