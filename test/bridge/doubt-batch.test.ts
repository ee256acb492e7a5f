import { NodeServices } from "@effect/platform-node"
import { expect } from "bun:test"
import { Clock, Duration, Effect, Layer, Result, SubscriptionRef } from "effect"
import { Dispatch } from "../../src/bridge/dispatch.ts"
import { type Means, resolve } from "../../src/bridge/doubt.ts"
import { readRequest, type Request } from "../../src/message/request.ts"
import { Portal as Client } from "../../src/portal/client.ts"
import { isRead } from "../../src/portal/methods.ts"
import { remedyFor } from "../../src/portal/remedies.ts"
import { Journal } from "../../src/journal/journal.ts"
import { Outlet } from "../../src/queue/outlet.ts"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { Settings } from "../../src/settings.ts"
import { live } from "../effect.ts"

// A batch of several writes is lost on its way, and each of its members is resolved by itself through the dispatcher.

const portalLimit = Duration.millis(200)
const tooOld = () => Effect.die("nothing is too old here")
const pause: Means["pause"] = (duration) => Effect.as(Effect.sleep(duration), true)

const requestOf = (method: string, params: unknown, n: number): Request => {
  const read = readRequest(
    {
      messageId: `m-${n}`,
      correlationId: undefined,
      timestamp: undefined,
      headers: { method, user: "1", token: "sandbox" },
      body: Buffer.from(JSON.stringify(params))
    },
    1e6
  )
  if (Result.isFailure(read)) throw new Error(read.failure.description)
  return read.success
}

const writes: ReadonlyArray<Request> = [
  ...Array.from({ length: 8 }, (_, n) =>
    requestOf("crm.deal.add", { fields: { TITLE: `deal ${n}`, ORIGINATOR_ID: "shop", ORIGIN_ID: `o-${n}` } }, n)
  ),
  requestOf("crm.lead.update", { id: "1", fields: { TITLE: "new" } }, 8),
  requestOf("crm.lead.delete", { id: "2" }, 9),
  requestOf("crm.timeline.comment.add", { fields: { ENTITY_ID: "1", ENTITY_TYPE: "lead", COMMENT: "a" } }, 10)
]

const throughDispatch = <E>(
  name: string,
  hurt: (portal: Portal) => Effect.Effect<() => void>,
  check: (portal: Portal, comments: number) => E
) =>
  live(name, () =>
    Effect.gen(function* () {
      const portal = yield* openPortal()
      portal.crm.table("lead").add({ TITLE: "old" })
      portal.crm.table("lead").add({ TITLE: "to go" })
      const outlet = yield* SubscriptionRef.make<string | undefined>(undefined)
      const settings = Settings.layerOf({
        AMPQURL: "amqp://127.0.0.1",
        B24REST: portal.url,
        // A quarter of it holds eleven writes of which nothing is known yet.
        B24RMQ_PORTAL_LIMIT: "240",
        B24RMQ_CONCURRENCY: "1",
        B24RMQ_PACK: "all"
      })
      const layer = Dispatch.layer.pipe(
        Layer.provide(Client.layer),
        Layer.provide(Journal.layerMemory),
        Layer.provide(Layer.mock(Outlet, { closed: outlet })),
        Layer.provide(settings),
        Layer.provide(NodeServices.layer)
      )
      yield* Effect.gen(function* () {
        const dispatch = yield* Dispatch
        yield* Effect.forkScoped(dispatch.run)
        const ask: Means["ask"] = (request, isRead) =>
          dispatch.ask({
            request,
            isRead,
            queue: "in",
            place: undefined,
            mayRest: () => false,
            crowds: () => false,
            deadline: undefined,
            most: 50,
            isLost: () => false
          })
        const mend = yield* hurt(portal)
        const sentAt = yield* Clock.currentTimeMillis
        const lost = yield* Effect.forEach(writes, (request) => ask(request, isRead(request.method, [])), {
          concurrency: "unbounded"
        })
        mend()
        const answers = yield* Effect.forEach(
          writes,
          (request, n) => {
            const reply = lost[n]
            if (reply?._tag !== "Sent" || reply.outcome._tag !== "Unknown" || !reply.packed) throw new Error("no doubt")
            const { reason, status } = reply.outcome
            const remedy = remedyFor(request, [], false)
            const doubt = {
              request,
              remedy,
              sentAt,
              latestStart: sentAt,
              inherited: false,
              attempts: 1,
              reason,
              status,
              packed: true
            }
            return resolve(doubt, { portalLimit, pause, ask, tooOld })
          },
          { concurrency: "unbounded" }
        )
        const results = answers.map((answer) => JSON.parse(Buffer.from(answer?.body ?? []).toString()))
        for (const n of Array.from({ length: 8 }).keys()) {
          expect(answers[n]?.outcome).toBe("done")
          expect(portal.crm.table("deal").get(results[n].result)?.get("ORIGIN_ID")).toBe(`o-${n}`)
          expect(portal.count("crm.deal.add", `o-${n}`)).toBe(1)
        }
        expect(answers.slice(8).map((answer) => answer?.outcome)).toEqual(["done", "done", "unknown"])
        expect([portal.crm.table("lead").get(1)?.get("TITLE"), portal.crm.table("lead").get(2)]).toEqual([
          "new",
          undefined
        ])
        expect(results[10].error_description).toStartWith("crm.timeline.comment.add was sent at ")
        check(portal, portal.count("crm.timeline.comment.add"))
      }).pipe(Effect.provide(layer))
    })
  )

throughDispatch(
  "a batch that was executed",
  (portal) => Effect.sync(() => portal.fault({ kind: "reset", executed: true })),
  (_, comments) => expect(comments).toBe(1)
)

throughDispatch(
  "a batch that never arrived",
  (portal) => Effect.sync(() => portal.fault({ kind: "reset" })),
  (_, comments) => expect(comments).toBe(0)
)

throughDispatch(
  "a batch that the portal ended in its middle",
  (portal) =>
    Effect.sync(() => {
      portal.latency(20)
      portal.limit({ time: { after: 70, answer: "html", goesOn: false } })
      return () => {
        expect(portal.count("crm.deal.add")).toBeGreaterThan(0)
        expect(portal.count("crm.deal.add")).toBeLessThan(8)
        portal.latency(0)
        portal.limit({ time: { after: 60_000, answer: "html", goesOn: false } })
      }
    }),
  (portal) => expect(portal.doubles()).toEqual([])
)
