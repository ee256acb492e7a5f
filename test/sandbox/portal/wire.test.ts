import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal, type Portal } from "../../../src/sandbox/portal/server.ts"
import { live } from "../../effect.ts"
import { ask, call, over, post, request, result } from "./client.ts"

const portal = <E>(name: string, body: (portal: Portal) => Effect.Effect<unknown, E>) =>
  live(name, () => Effect.flatMap(openPortal({ longestBody: 40_000_000 }), body))

const path = "/rest/1/sandbox/sandbox.raw"
const answers = (count: number) => (text: string) => text.split("}}").length > count

portal("requests that come together are answered in their order", (portal) =>
  Effect.gen(function* () {
    portal.latency({ "server.time": 20 })
    const all = request("/rest/1/sandbox/server.time", "{}") + request(path, "{}") + request(path, '{"a":1}')
    const { text } = yield* over(portal.port, all, answers(3))
    expect([...text.matchAll(/"bytes":(\d+)/g)].map(([, bytes]) => bytes)).toEqual(["2", "7"])
    expect(text.indexOf("+03:00")).toBeLessThan(text.indexOf('"bytes"'))
  })
)

portal("a request may come byte by byte", (portal) =>
  Effect.gen(function* () {
    const parts = Array.from(request(path, '{"a":"x"}'))
    expect((yield* over(portal.port, parts, answers(1))).text).toContain('"bytes":9')
  })
)

portal("a body may come in chunks", (portal) =>
  Effect.gen(function* () {
    const head = `POST ${path} HTTP/1.1\r\nHost: p\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`
    const chunks = ["5\r\n12345\r\n", "a;x=1\r\n67890abcde\r\n", "0\r\nTrailer: 1\r\n", "\r\n"]
    expect((yield* over(portal.port, [head, ...chunks.slice(0, 2), "0\r\n\r\n"], answers(1))).text).toContain(
      '"bytes":15'
    )
    const broken = yield* over(portal.port, [head, "zz\r\n\r\n"])
    expect([broken.text.slice(0, 24), broken.end]).toEqual(["HTTP/1.1 400 Bad Request", "end"])
  })
)

portal("a client may ask before it sends a long body", (portal) =>
  Effect.gen(function* () {
    const asked = request(path, "{}", "Expect: 100-continue\r\n")
    const { text } = yield* over(portal.port, asked, answers(1))
    expect(text).toStartWith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
  })
)

portal("a body of many megabytes arrives whole, and one that is too long is refused", (portal) =>
  Effect.gen(function* () {
    const body = JSON.stringify({ file: "x".repeat(30_000_000) })
    expect(result(yield* post(`${portal.origin}${path}`, body))).toMatchObject({
      bytes: body.length,
      sha256: new Bun.CryptoHasher("sha256").update(body).digest("hex")
    })
    const long = "POST /rest/1/a/x HTTP/1.1\r\nContent-Length: 40000001\r\n\r\n"
    expect((yield* over(portal.port, long)).text).toStartWith("HTTP/1.1 413 Request Entity Too Large")
  })
)

portal("what is no HTTP is refused", (portal) =>
  Effect.gen(function* () {
    for (const nonsense of [
      "hello\r\n\r\n",
      "GET / HTTP/1.1\r\nnonsense\r\n\r\n",
      "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"
    ]) {
      expect((yield* over(portal.port, nonsense)).text).toStartWith("HTTP/1.1 400 Bad Request")
    }
    const long = `GET /${"x".repeat(40_000)}`
    expect((yield* over(portal.port, long)).text).toStartWith("HTTP/1.1 414 Request-URI Too Large")
  })
)

portal("a connection is kept or closed as the client wishes", (portal) =>
  Effect.gen(function* () {
    const close = yield* over(portal.port, request(path, "{}", "Connection: close\r\n"))
    expect([close.end, close.text.includes("Connection: close")]).toEqual(["end", true])
    const old = yield* over(portal.port, `GET ${path} HTTP/1.0\r\n\r\n`)
    expect(old.end).toBe("end")
    const head = yield* over(portal.port, `HEAD ${path} HTTP/1.1\r\nConnection: close\r\n\r\n`)
    expect(head.text.endsWith("\r\n\r\n")).toBe(true)
  })
)

portal("an answer longer than the socket's buffer reaches a client that reads slowly", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "huge", bytes: 20_000_000 })
    const [first, second] = yield* Effect.all([call(portal, "server.time"), call(portal, "server.time")], {
      concurrency: 2
    })
    expect([first.text.length, second.text.length]).toEqual([20_000_000, 20_000_000])
  })
)

live("an address of the sixth version is written in brackets", () =>
  Effect.gen(function* () {
    const portal = yield* openPortal({ hostname: "::1" })
    expect(portal.url).toStartWith("http://[::1]:")
    expect((yield* call(portal, "server.time")).status).toBe(200)
  }).pipe(Effect.catchTag("PortalFailed", () => Effect.void))
)

live("HTTPS, with resets, cuts and everything", () =>
  Effect.gen(function* () {
    if (Bun.which("openssl") === null) return
    const portal = yield* openPortal({ tls: yield* certificate })
    const tls = { rejectUnauthorized: false }
    // By POST: a GET that is reset on a kept-alive connection is sent again by Bun's fetch, unasked.
    const time = ask(`${portal.webhook()}server.time`, { method: "POST", body: "{}", tls } as RequestInit)
    expect(portal.url).toStartWith("https://127.0.0.1:")
    expect((yield* time).status).toBe(200)
    portal.fault({ kind: "reset", when: { next: 1 } })
    expect(yield* Effect.flip(time)).toBe("ECONNRESET")
    portal.fault({ kind: "cut", when: { next: 1 } })
    expect(yield* Effect.flip(time)).toBeString()
    portal.fault({ kind: "huge", bytes: 3_000_000, when: { next: 1 } })
    expect((yield* time).text).toHaveLength(3_000_000)
    yield* portal.down
    expect(yield* Effect.flip(time)).toBe("ECONNREFUSED")
    yield* portal.up
    expect((yield* time).status).toBe(200)
  })
)

// Made with `openssl req -x509` for this test alone: nothing trusts it.
const certificate = Effect.sync(() => {
  const made = Bun.spawnSync(
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=portal -keyout - -out -".split(
      " "
    )
  )
  const pem = made.stdout.toString()
  const cut = pem.indexOf("-----BEGIN CERTIFICATE-----")
  return { key: pem.slice(0, cut), cert: pem.slice(cut) }
})
