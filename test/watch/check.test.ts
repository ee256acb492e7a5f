import { describe, expect } from "bun:test"
import { Effect } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { declareQueues, onLink, publishAll, requests } from "../rig/producer.ts"
import { sharedNode, vhost } from "../rig/rabbit.ts"

/** Runs `check` and gives what it said, and its exit code. */
const check = (env: Readonly<Record<string, string>>, args: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const bridge = yield* startBridge({ env, args: ["check", ...args], ready: false })
    const { code } = yield* bridge.exited
    return { code, says: bridge.output() }
  })

describe("check", () => {
  live("finds nothing to complain of where all is well, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const { url, queueDepth, connections } = yield* vhost
      const portal = yield* openPortal()
      yield* declareQueues(url, { in: "bitrix24in", out: "bitrix24out", type: "quorum" })
      const { code, says } = yield* check({
        AMPQURL: url,
        B24REST: portal.url,
        B24RMQ_CHECK_USER: "1",
        B24RMQ_CHECK_TOKEN: "canarytoken"
      })
      expect(says).toMatch(/^ok +settings/m)
      expect(says).toMatch(/^ok +broker +RabbitMQ \d/m)
      expect(says).toMatch(/^ok +AMPQIN +bitrix24in: 0 messages, 0 consumers/m)
      expect(says).toMatch(/^ok +AMPQIN +type quorum/m)
      expect(says).toMatch(/^ok +AMPQIN +may be consumed/m)
      expect(says).toMatch(/^ok +AMPQOUT +may be published to/m)
      expect(says).toMatch(/^ok +portal +127\.0\.0\.1:\d+ answers/m)
      expect(says).toMatch(/^ok +webhook +of user 1 works; its scope: .*crm/m)
      expect(says).not.toContain("canarytoken")
      expect(code).toBe(0)
      expect(yield* queueDepth("bitrix24out")).toEqual({ ready: 0, unacked: 0, consumers: 0 })
      expect(yield* connections).toBe(0)
    })
  )

  live("takes no message that waits, and says what it therefore did not test", () =>
    Effect.gen(function* () {
      const { url, queueDepth } = yield* vhost
      const portal = yield* openPortal()
      yield* declareQueues(url, { in: "bitrix24in", out: "bitrix24out" })
      yield* publishAll(url, "bitrix24in", requests(3))
      const { code, says } = yield* check({ AMPQURL: url, B24REST: portal.url })
      expect(says).toMatch(/^warn +AMPQIN +right to consume not tested/m)
      expect(code).toBe(0)
      expect(yield* queueDepth("bitrix24in")).toEqual({ ready: 3, unacked: 0, consumers: 0 })
      const redelivered = yield* onLink(url, async (link) => {
        const channel = await link.createChannel()
        const message = await channel.get("bitrix24in", { noAck: true })
        return message !== false && message.fields.redelivered
      })
      expect(redelivered).toBe(false)
    })
  )

  live("names every right that is missing", () =>
    Effect.gen(function* () {
      const node = yield* sharedNode
      const { name, url } = yield* vhost
      const portal = yield* openPortal()
      yield* declareQueues(url, { in: "bitrix24in", out: "bitrix24out" })
      const user = `poor-${name.replaceAll(/\W/g, "")}`
      yield* Effect.acquireRelease(node.ctl("add_user", user, "secretword"), () =>
        Effect.ignore(node.ctl("delete_user", user))
      )
      yield* node.ctl("set_permissions", "-p", name, user, "^$", "^$", "^$")
      const poor = new URL(url)
      poor.username = user
      poor.password = "secretword"
      const { code, says } = yield* check({ AMPQURL: poor.href, B24REST: portal.url })
      expect(says).toMatch(/^FAIL +AMPQIN +may not be consumed: .*read right/m)
      expect(says).toMatch(/^FAIL +AMPQOUT +may not be published to: .*write right/m)
      expect(says).not.toContain("secretword")
      expect(code).toBe(1)
    })
  )

  live("says what is not there: broker, queues, portal, webhook", () =>
    Effect.gen(function* () {
      const { url } = yield* vhost
      const portal = yield* openPortal()
      portal.credential("1/revoked", "revoked")
      const missing = yield* check({ AMPQURL: url, B24REST: portal.url, B24RMQ_DECLARE: "no" }, [
        "--user",
        "1",
        "--token",
        "revoked"
      ])
      expect(missing.says).toMatch(/^FAIL +AMPQIN +bitrix24in does not exist; declare it/m)
      expect(missing.says).toMatch(/^FAIL +webhook +of user 1: the portal answers \(INVALID_CREDENTIALS\)/m)
      expect(missing.code).toBe(1)
      const away = yield* check({ AMPQURL: "amqp://127.0.0.1:1", B24REST: "http://127.0.0.1:1/rest/" })
      expect(away.says).toMatch(/^FAIL +broker +.*ECONNREFUSED.*; check AMPQURL/m)
      expect(away.says).toMatch(/^FAIL +portal +127\.0\.0\.1:1 does not work: ECONNREFUSED/m)
      expect(away.code).toBe(1)
    })
  )
})
