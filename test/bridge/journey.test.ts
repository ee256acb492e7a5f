import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { checkAnswers, collector, publishAll, requests } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"

live(
  "10,000 requests are answered once each, with their ids and the portal's bodies",
  () =>
    Effect.gen(function* () {
      const { url } = yield* vhost
      const portal = yield* openPortal()
      const bridge = yield* startBridge({ env: { AMPQURL: url, B24REST: portal.url, B24RMQ_LOG: "json" } })
      const answers = yield* collector(url, "bitrix24out")
      const sent = requests(10_000, () => ({ method: "crm.deal.list" }))
      yield* publishAll(url, "bitrix24in", sent)
      const got = yield* answers.has(10_000, "60 seconds")
      const checked = checkAnswers(sent, got)
      expect(checked.lost).toEqual([])
      expect(checked.duplicated).toEqual([])
      expect(checked.byOutcome).toEqual({ done: 10_000 })
      yield* bridge.kill("SIGTERM")
      const ended = yield* bridge.exited
      expect(ended).toMatchObject({ code: 0 })
    }),
  90_000
)
