import { expect, test } from "bun:test"
import { Effect } from "effect"
import { createServer } from "node:net"
import { openPortal } from "../src/sandbox/portal/server.ts"
import { live } from "./effect.ts"
import { type Bridge, type BridgeOptions, program, startBridge } from "./rig/bridge.ts"
import { run, temporaryFolder } from "./rig/child.ts"
import { freePort } from "./rig/ports.ts"
import { type Answers, collector, declareQueues, publishAll, queueRequest } from "./rig/producer.ts"
import { sharedNode } from "./rig/rabbit.ts"
import { until } from "./rig/until.ts"

// Secrets that would be found wherever they turn up. Tokens may hold letters and digits only.
const canary = "canary0"
const token = `${canary}token`
const revoked = `${canary}revoked`
const brokerPassword = `${canary}broker`
const proxyPassword = `${canary}proxy`
const pagePassword = `${canary}page`
const secrets = [token, revoked, brokerPassword, proxyPassword, pagePassword]

// As text, percent-encoded (no letter or digit changes), or in base64 at each of the three alignments.
const traces = [
  canary,
  ...secrets.flatMap((secret) =>
    ["", "a", "ab"].map((before) => Buffer.from(`${before}${secret}`).toString("base64").slice(4, -4))
  )
]

/** The pieces of a text in which a secret shows, with what stands around it. */
const hits = (text: string) =>
  traces.flatMap((trace) => {
    const at = text.indexOf(trace)
    return at < 0 ? [] : [text.slice(Math.max(0, at - 120), at + 120)]
  })

const answersAsText = (answers: Answers) =>
  [...answers.values()]
    .flat()
    .map(({ properties, body }) => `${JSON.stringify(properties)} ${body.toString()}`)
    .join("\n")

/** A vhost and a user of it whose password is a secret. */
const broker = Effect.gen(function* () {
  const node = yield* sharedNode
  const vhost = yield* node.vhost()
  const name = `leaks-${vhost.name}`
  const binary = (text: string) => `<<${[...Buffer.from(text)].join(",")}>>`
  const all = binary(".*")
  yield* Effect.acquireRelease(
    node.evaluate(
      `ok = rabbit_auth_backend_internal:add_user(${binary(name)}, ${binary(brokerPassword)}, ${binary("rig")}), ok = rabbit_auth_backend_internal:set_permissions(${binary(name)}, ${binary(vhost.name)}, ${all}, ${all}, ${all}, ${binary("rig")})`
    ),
    () => Effect.ignore(node.evaluate(`rabbit_auth_backend_internal:delete_user(${binary(name)}, ${binary("rig")})`))
  )
  const urlWith = (user: string, password: string) =>
    `amqp://${user}:${password}@127.0.0.1:${node.port}/${encodeURIComponent(vhost.name)}`
  return { vhost, url: urlWith(name, brokerPassword), wrongUrl: urlWith("nobody", brokerPassword) }
})

// Each request in a call of its own: every fault is meant for one.
const debugging = { B24RMQ_LOG_LEVEL: "debug", B24RMQ_PACK: "off" }

/** Stops a bridge and gives all that it said. */
const lastWords = (bridge: Bridge) =>
  Effect.gen(function* () {
    yield* bridge.kill("SIGTERM")
    yield* bridge.exited
    return bridge.output()
  })

const start = (env: Readonly<Record<string, string>>, options: BridgeOptions = {}) =>
  startBridge({ env: { ...debugging, ...env }, ...options })

/** Runs a command of the program to its end. */
const command = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const cwd = yield* temporaryFolder("leaks")
    const [first, ...before] = program()
    const { code, out, err } = yield* run({
      command: first,
      args: [...before, ...args],
      env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: cwd, ...debugging, ...env },
      cwd
    })
    return { code, said: `${out}\n${err}` }
  })

/** All that a running bridge tells those who ask it, by its socket, its page and its commands. */
const toldByInterface = (bridge: Bridge, port: number) =>
  Effect.gen(function* () {
    const { fields } = yield* bridge.waitForLine("socket-open")
    const unix = String(fields?.["socket"])
    const authorization = `Basic ${Buffer.from(`x:${pagePassword}`).toString("base64")}`
    const text = (route: string, init: BunFetchRequestInit = {}) =>
      Effect.promise(() => fetch(`http://127.0.0.1:${port}${route}`, init).then((response) => response.text()))
    const post = (route: string, body: unknown) =>
      text(route, { unix, method: "POST", body: typeof body === "string" ? body : JSON.stringify(body) })
    const routes = ["/status", "/history", "/ready", "/health", "/metrics", "/", "/find/revoked"]
    const call = { method: "crm.deal.list", user: "1", token, body: "{}" }
    const archive = `${bridge.cwd}/diag.tar.gz`
    const commands = [
      ["status"],
      ["status", "--json"],
      ["call", "crm.deal.list", "--user", "1", "--token", token],
      ["diag", "--out", archive]
    ]
    const told = yield* Effect.all([
      ...routes.flatMap((route) => [text(route, { unix }), text(route, { headers: { authorization } })]),
      text("/status"),
      text("/diag", { unix }),
      post("/set", { name: "rate", value: "off" }),
      post("/call", call),
      post("/call", { ...call, token: revoked }),
      post("/call", { ...call, token: `${token}/` }),
      post("/call", { ...call, token: { token } }),
      post("/call", `{"token":"${token}"`)
    ])
    for (const args of commands) {
      const { code, said } = yield* command([...args, "--socket", unix], {})
      expect([args[0], code === 0 || args[0] === "status"]).toEqual([args[0], true])
      told.push(said)
    }
    const files = yield* Effect.promise(async () => new Bun.Archive(await Bun.file(archive).bytes()).files())
    for (const file of files.values()) told.push(yield* Effect.promise(() => file.text()))
    // What was asked for was told.
    for (const words of ["B24RMQ_HTTP_PASSWORD=(set, not shown)", "a password is needed", "INVALID_CREDENTIALS"])
      expect(told.join("\n")).toContain(words)
    return told.join("\n")
  })

/** A certificate that nobody trusts. */
const certificate = Effect.gen(function* () {
  const folder = yield* temporaryFolder("leaks")
  const options =
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=portal -keyout - -out -"
  const made = yield* run({ command: "openssl", args: options.split(" "), env: { PATH: "/usr/bin:/bin" }, cwd: folder })
  const cut = made.out.indexOf("-----BEGIN CERTIFICATE-----")
  return { key: made.out.slice(0, cut), cert: made.out.slice(cut) }
})

/** A proxy that lets nobody through, and says what it was told. */
const refusingProxy = Effect.acquireRelease(
  Effect.promise(
    () =>
      new Promise<{ readonly port: number; readonly heard: () => string; readonly close: () => void }>((done) => {
        let heard = ""
        const server = createServer((socket) => {
          socket.on("error", () => undefined)
          socket.on("data", (bytes) => {
            heard += bytes.toString()
            socket.end(
              `HTTP/1.1 407 Proxy Authentication Required\r\nX-Echo: ${proxyPassword}\r\nContent-Length: 0\r\n\r\n`
            )
          })
        })
        server.listen(0, "127.0.0.1", () => {
          const address = server.address()
          const port = typeof address === "object" && address !== null ? address.port : 0
          done({ port, heard: () => heard, close: () => server.close() })
        })
      })
  ),
  ({ close }) => Effect.sync(close)
)

test("a secret would be found", () => {
  for (const secret of secrets) {
    expect(hits(`x ${secret} y`).length).toBeGreaterThan(0)
    for (const before of ["", "\0user\0", "12"]) {
      expect(hits(Buffer.from(`${before}${secret}`).toString("base64")).length).toBeGreaterThan(0)
    }
  }
  expect(hits("nothing of that kind")).toEqual([])
})

live(
  "neither the log nor an answer nor the interface tells a secret while everything fails that can fail at a portal",
  () =>
    Effect.gen(function* () {
      const { vhost, url } = yield* broker
      const portal = yield* openPortal()
      portal.credential(`1/${revoked}`, "revoked")
      const echo = `POST /rest/1/${token}/crm.deal.add`
      const faults = {
        reset: { kind: "reset" },
        close: { kind: "close" },
        "reset after it was done": { kind: "reset", executed: true },
        "502": { kind: "html", status: 502 },
        "empty 500": { kind: "empty", status: 500 },
        "500 JSON": { kind: "answer", status: 500 },
        "500 that echoes": { kind: "answer", status: 500, body: { error: echo, error_description: echo } },
        "502 that echoes": { kind: "answer", status: 502, body: { message: echo } },
        "not JSON": { kind: "notJson" },
        redirect: { kind: "redirect", to: `https://new.example/rest/1/${token}/crm.deal.add` },
        "redirect to nowhere": { kind: "redirect", to: `/rest/1/${token}/crm.deal.add` },
        cut: { kind: "cut" },
        "cut and reset": { kind: "cut", reset: true },
        "not UTF-8": { kind: "notUtf8" },
        huge: { kind: "huge", bytes: 100_000 },
        "too many requests": { kind: "answer", status: 503, body: { error: "QUERY_LIMIT_EXCEEDED" } },
        "account blocked": { kind: "answer", status: 401, body: { error: "OVERLOAD_LIMIT" } },
        "method closed": { kind: "answer", status: 429, body: { error: "OPERATION_TIME_LIMIT" } }
      } as const
      for (const [name, fault] of Object.entries(faults)) {
        portal.fault({ ...fault, when: { containing: `"${name}"`, next: 1 } })
      }
      const port = yield* freePort
      const bridge = yield* start({
        AMPQURL: url,
        B24REST: portal.url,
        B24RMQ_MAX_ANSWER: "50000",
        B24RMQ_HTTP: `127.0.0.1:${port}`,
        B24RMQ_HTTP_PASSWORD: pagePassword,
        HTTPS_PROXY: `http://user:${proxyPassword}@127.0.0.1:9`
      })
      const answers = yield* collector(url, "bitrix24out")
      const messages = [
        ...Object.keys(faults).map((name) =>
          queueRequest({
            messageId: name,
            // What a closed method holds up, it holds up for a minute.
            method: name === "method closed" ? "crm.lead.add" : "crm.deal.add",
            token,
            params: { fields: { TITLE: name } }
          })
        ),
        queueRequest({ messageId: "good", method: "crm.deal.list", token }),
        queueRequest({ messageId: "refused", method: "crm.deal.get", token, params: { id: 0 } }),
        queueRequest({ messageId: "revoked", method: "crm.deal.list", token: revoked }),
        queueRequest({ messageId: "bad token", token: `${token}/` }),
        queueRequest({ messageId: "token as user", user: token }),
        queueRequest({ messageId: "token in method", method: `1/${token}/crm.deal.list` }),
        queueRequest({ messageId: "token in a table", token: { token } }),
        queueRequest({ messageId: "token in a bad body", token, params: `{"token":"${token}"` })
      ]
      yield* publishAll(url, "bitrix24in", messages)
      const got = yield* answers.has(messages.length - 1, "40 seconds")
      yield* bridge.waitForLine("method-closed")

      const mark = bridge.mark()
      yield* portal.down
      yield* publishAll(url, "bitrix24in", [
        queueRequest({ messageId: "while it was away", method: "crm.deal.list", token })
      ])
      yield* bridge.waitForLine("portal-away", { after: mark })
      yield* portal.up
      yield* answers.answerTo("while it was away")
      yield* vhost.closeConnections
      yield* bridge.waitForLine("link-lost")
      yield* bridge.consuming({ after: mark })

      // The secrets were really used, and all that should be said was said.
      expect(portal.executions.some(({ secret }) => secret === token)).toBe(true)
      const outcomes = Map.groupBy(
        [...got].flatMap(([, list]) => list),
        ({ outcome }) => outcome
      )
      expect([...outcomes.keys()].toSorted()).toEqual(["done", "refused", "rejected", "unknown"])
      expect(hits(yield* toldByInterface(bridge, port))).toEqual([])
      const said = yield* lastWords(bridge)
      for (const event of [
        "request-answered",
        "request-rejected",
        "outcome-unknown",
        "credential-refused",
        "account-blocked"
      ]) {
        expect(bridge.lines().map((line) => line.event)).toContain(event)
      }
      expect(hits(said)).toEqual([])
      expect(hits(answersAsText(answers.answers))).toEqual([])
    }),
  60_000
)

live(
  "nor a portal whose certificate nobody trusts, a proxy that refuses, a broker that does",
  () =>
    Effect.gen(function* () {
      const { url, wrongUrl } = yield* broker
      yield* declareQueues(url, { in: "tls", out: "out" })
      yield* declareQueues(url, { in: "proxy" })
      yield* publishAll(url, "tls", [queueRequest({ method: "crm.deal.add", token })])
      yield* publishAll(url, "proxy", [queueRequest({ method: "crm.deal.add", token })])
      const portal = yield* openPortal({ tls: yield* certificate })
      const proxy = yield* refusingProxy
      const through = { HTTPS_PROXY: `http://user:${proxyPassword}@127.0.0.1:${proxy.port}` }
      const common = { AMPQURL: url, B24REST: portal.url, AMPQOUT: "out", B24RMQ_LOG: "logfmt" }
      const bridges = yield* Effect.all(
        [
          start({ ...common, AMPQIN: "tls" }, { ready: false }),
          start({ ...common, AMPQIN: "proxy", ...through }, { ready: false }),
          start({ ...common, AMPQURL: wrongUrl }, { ready: false })
        ],
        { concurrency: 3 }
      )
      const [untrusted, refused, stranger] = bridges
      yield* untrusted.waitForLine(/event=portal-away/)
      yield* refused.waitForLine(/event=portal-away/)
      yield* stranger.waitForLine(/event=link-failed/)
      yield* until(
        "the proxy was asked",
        Effect.sync(() => proxy.heard().startsWith("CONNECT "))
      )
      expect(hits(proxy.heard()).length).toBeGreaterThan(0)
      expect(portal.requests).toBe(0)
      for (const bridge of bridges) expect(hits(yield* lastWords(bridge))).toEqual([])
    }),
  40_000
)

live(
  "nor any command: check, demo, help, and what is said of wrong settings",
  () =>
    Effect.gen(function* () {
      const { url, wrongUrl } = yield* broker
      const portal = yield* openPortal()
      portal.credential(`1/${revoked}`, "revoked")
      const env = { AMPQURL: url, B24REST: portal.url, HTTPS_PROXY: `http://user:${proxyPassword}@127.0.0.1:9` }
      const webhook = (secret: string) => ["--user", "1", "--token", secret]
      const pasted = `https://portal.example/rest/1/${token}/`
      const told = (args: ReadonlyArray<string>, more: Readonly<Record<string, string>> = {}) =>
        Effect.map(command(args, { ...env, ...more }), (ended) => ({ ...ended, what: args[0] ?? "run" }))
      const ended = yield* Effect.all(
        [
          told(["--help"]),
          told(["check", "--help"]),
          told(["check", ...webhook(token)]),
          told(["check", ...webhook(revoked)]),
          told(["check", ...webhook(`../${token}`)]),
          told(["check"], { AMPQURL: wrongUrl, B24REST: "http://127.0.0.1:9/rest/" }),
          told(["demo", "--requests", "40", ...webhook(token)]),
          told(["demo", "--requests", "40", ...webhook(token)], { AMPQURL: wrongUrl }),
          told(["demo", ...webhook(token)], { B24REST: pasted }),
          told([], { B24REST: pasted, HTTPS_PROXY: proxyPassword, AMPQURL: `amqp://user:${brokerPassword}/x@host` }),
          told(["check"], { B24REST: pasted }),
          told(["check", ...webhook(token), "--nonsense"]),
          told(["nonsense"])
        ],
        { concurrency: 2 }
      )
      expect(ended.map(({ what, code }) => `${what} ${code}`)).toEqual([
        "--help 0",
        "check 0",
        "check 0",
        "check 1",
        "check 1",
        "check 1",
        "demo 0",
        "demo 1",
        "demo 78",
        "run 78",
        "check 78",
        "check 1",
        "nonsense 1"
      ])
      expect(portal.executions.some(({ secret }) => secret === token)).toBe(true)
      expect(ended.flatMap(({ said }) => hits(said))).toEqual([])
    }),
  60_000
)
