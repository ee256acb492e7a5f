import { expect } from "bun:test"
import { Effect } from "effect"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { run, temporaryFolder } from "../rig/child.ts"
import { freePort } from "../rig/ports.ts"
import { checkAnswers, collector, publishAll } from "../rig/producer.ts"
import { sharedNode, startNode, type Vhost } from "../rig/rabbit.ts"
import { RigFailed } from "../rig/until.ts"
import { deals, queueIn, queueOut, stopped } from "./load.ts"

/** Starts a bridge with these settings, and has it answer. */
const answersThrough = (vhost: Vhost, portal: Portal, env: Readonly<Record<string, string>>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const bridge = yield* startBridge({ env: { B24REST: portal.url, ...env } })
      const answers = yield* collector(vhost.url, queueOut)
      const sent = deals(20)
      yield* publishAll(vhost.url, queueIn, sent)
      const checked = checkAnswers(sent, yield* answers.has(20))
      expect(checked).toMatchObject({ lost: [], duplicated: [], byOutcome: { done: 20 } })
      yield* stopped(bridge)
    })
  )

/** A certificate authority of one's own, and a certificate of it for this machine. */
const certificates = (folder: string, name: string) =>
  Effect.gen(function* () {
    const at = join(folder, name)
    mkdirSync(at)
    writeFileSync(join(at, "names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    const openssl = (...args: ReadonlyArray<string>) =>
      Effect.flatMap(run({ command: "openssl", args, env: { PATH: process.env["PATH"] ?? "" }, cwd: at }), (ended) =>
        ended.code === 0 ? Effect.void : Effect.fail(new RigFailed({ what: `openssl ${args.join(" ")}: ${ended.err}` }))
      )
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    yield* openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", `/CN=${name}`)
    yield* openssl("req", ...key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=broker")
    yield* openssl(
      ..."x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names".split(
        " "
      )
    )
    return { ca: join(at, "ca.pem"), cert: join(at, "server.pem"), key: join(at, "server.key") }
  })

live(
  "amqps with an authority of one's own, by name and by address; another authority is refused",
  () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder("tls")
      const right = yield* certificates(folder, "right")
      const wrong = yield* certificates(folder, "wrong")
      const port = yield* freePort
      const node = yield* startNode({
        conf: [
          `listeners.ssl.1 = 127.0.0.1:${port}`,
          `ssl_options.cacertfile = ${right.ca}`,
          `ssl_options.certfile = ${right.cert}`,
          `ssl_options.keyfile = ${right.key}`
        ]
      })
      const own = yield* node.vhost("tls")
      const portal = yield* openPortal()
      for (const host of ["localhost", "127.0.0.1"]) {
        const AMPQURL = `amqps://guest:guest@${host}:${port}/tls`
        yield* answersThrough(own, portal, { AMPQURL, B24RMQ_CA: right.ca })
        for (const env of [{ AMPQURL }, { AMPQURL, B24RMQ_CA: wrong.ca }]) {
          const bridge = yield* startBridge({ env: { B24REST: portal.url, ...env }, ready: false })
          const refused = yield* bridge.waitForLine("link-failed")
          expect(refused.text).toMatch(/certificate/)
          expect(bridge.ended()).toBeUndefined()
          yield* stopped(bridge)
        }
      }
      // Both may be in one file, and which comes first does not matter.
      const both = join(folder, "both.pem")
      writeFileSync(both, readFileSync(wrong.ca, "utf8") + readFileSync(right.ca, "utf8"))
      yield* answersThrough(own, portal, { AMPQURL: `amqps://guest:guest@localhost:${port}/tls`, B24RMQ_CA: both })
    }),
  60_000
)

live(
  "names and passwords of any characters; what is wrong with an address is told",
  () =>
    Effect.gen(function* () {
      const node = yield* sharedNode
      const portal = yield* openPortal()
      const name = `a/b %25 тест ${process.pid}`
      const own = yield* node.vhost(name)
      const user = `user @:${process.pid} ü`
      const password = "p@ss:w/o#r?d %25&пароль"
      const text = (value: string) => `<<${[...Buffer.from(value)].join(",")}>>`
      yield* Effect.acquireRelease(
        node.evaluate(
          `rabbit_auth_backend_internal:add_user(${text(user)}, ${text(password)}, <<"rig">>), rabbit_auth_backend_internal:set_permissions(${text(user)}, ${text(name)}, <<".*">>, <<".*">>, <<".*">>, <<"rig">>)`
        ),
        () => Effect.ignore(node.evaluate(`rabbit_auth_backend_internal:delete_user(${text(user)}, <<"rig">>)`))
      )
      const login = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`
      const at = (login: string, vhost: string) => `amqp://${login}@127.0.0.1:${node.port}/${encodeURIComponent(vhost)}`
      yield* answersThrough(own, portal, { AMPQURL: at(login, name) })
      for (const [AMPQURL, reason] of [
        [at(`${encodeURIComponent(user)}:wrong`, name), /ACCESS.REFUSED/],
        [at(login, "no such vhost"), /refused the vhost/]
      ] as const) {
        const bridge = yield* startBridge({ env: { AMPQURL, B24REST: portal.url }, ready: false })
        const failed = yield* bridge.waitForLine("link-failed")
        expect(failed.text).toMatch(reason)
        expect(bridge.output()).not.toContain(encodeURIComponent(password))
        yield* stopped(bridge)
      }
    }),
  60_000
)
