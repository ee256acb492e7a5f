import { describe, expect, test } from "bun:test"
import { Effect } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { type Answer, collector, type Message, onLink, publishAll, queueRequest } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import {
  digest,
  documents,
  hugeAnswer,
  type Odd,
  oddMessages,
  oddTable,
  rawMethod,
  tableIn,
  textOf,
  undisguised
} from "./bad-messages.ts"

const MiB = 1024 * 1024

interface Sent {
  readonly odd: Odd
  /** The correlation_id: it comes back where a message_id does not. */
  readonly key: string
  readonly message: Message
}

/** A thousand odd messages: each of the table as often as the next, but for the large ones. */
const thousand = (): ReadonlyArray<Sent> => {
  const sent: Array<Sent> = []
  for (let round = 0; sent.length < 1_000; round++) {
    for (const odd of oddMessages) {
      if (sent.length === 1_000) break
      if (round >= (odd.times ?? Infinity)) continue
      const key = `odd-${sent.length}`
      const message = queueRequest({
        messageId: key,
        ...odd.asked,
        properties: { correlationId: key, ...odd.asked.properties }
      })
      sent.push({ odd, key, message })
    }
  }
  return sent
}

/** A thousand good ones: every second one writes. */
const good = Array.from({ length: 1_000 }, (_, index) =>
  index % 2 === 0
    ? queueRequest({ messageId: `good-${index}`, method: "sandbox.echo", params: { index } })
    : queueRequest({
        messageId: `good-${index}`,
        method: "crm.deal.add",
        params: { fields: { TITLE: `good-${index}` } }
      })
)

interface Written {
  readonly write: (bytes: Uint8Array, ...more: ReadonlyArray<unknown>) => boolean
}

/** Publishes over a connection on which disguised bytes become the real ones. */
const publishDisguised = (url: string, queue: string, messages: ReadonlyArray<Message>) =>
  onLink(url, async (link) => {
    const { stream } = link.connection as unknown as { readonly stream: Written & { write: Written["write"] } }
    const write = stream.write.bind(stream)
    stream.write = (bytes, ...more) => write(undisguised(bytes), ...more)
    const channel = await link.createConfirmChannel()
    for (const { content, options } of messages) channel.sendToQueue(queue, content, options)
    await channel.waitForConfirms()
  })

const isDisguised = ({ odd: { asked } }: Sent) =>
  Object.keys(asked.headers ?? {}).some((name) => name === "deep" || name.endsWith("X")) ||
  asked.messageId !== undefined

interface Raw {
  readonly result: {
    readonly target: string
    readonly sha256: string
    readonly headers: Readonly<Record<string, string>>
  }
}

/** What is wrong with the answer to an odd message, or undefined. */
const fault = ({ odd, key }: Sent, answer: Answer): string | undefined => {
  const wanted = {
    outcome: odd.outcome,
    attempts: odd.outcome === "done" ? 1 : 0,
    status: odd.outcome === "done" ? 200 : undefined,
    method: odd.outcome === "done" ? rawMethod : undefined,
    id: odd.nameless ? "" : key,
    contentType: "application/json"
  }
  const { outcome, attempts, status, method, id, properties } = answer
  const got = { outcome, attempts, status, method, id, contentType: properties.contentType }
  if (!Bun.deepEquals(got, wanted)) return `${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`
  if (odd.code !== undefined) {
    const { error, error_description } = answer.json() as {
      readonly error?: string
      readonly error_description?: string
    }
    if (error !== odd.code) return `${error} instead of ${odd.code}`
    return error_description === undefined || error_description.includes("secret0token") ? "its words" : undefined
  }
  const { target, sha256, headers } = (answer.json() as Raw).result
  if (target !== `/rest/1/secret0token/${rawMethod}`) return `called ${target}`
  if (headers["content-type"] !== "application/json") return `sent as ${headers["content-type"]}`
  return odd.body !== undefined && sha256 !== digest(odd.body) ? "the portal got other bytes" : undefined
}

describe("the table of odd messages", () => {
  for (const language of ["en", "ru"] as const) {
    test(`in ${documents[language]} (bun test/message/bad-messages.ts)`, () => {
      expect(tableIn(language)).toBe(oddTable(language))
    })
  }
})

test("the documents explain every error code there is, and no other", () => {
  const source = fileURLToPath(new URL("../../src", import.meta.url))
  const code = ["message", "portal", "journal", "bridge"]
    .flatMap((folder) =>
      readdirSync(`${source}/${folder}`).map((file) => readFileSync(`${source}/${folder}/${file}`, "utf8"))
    )
    .join("\n")
  // Names of settings have the same beginning; they are not quoted by themselves there.
  const codes = [...code.matchAll(/"(B24RMQ_[A-Z_]+)"/g)].map(([, name = ""]) => name)
  const ofHeaders = ["METHOD", "USER", "TOKEN"].flatMap((name) => [`B24RMQ_NO_${name}`, `B24RMQ_BAD_${name}`])
  const all = [...new Set([...codes, ...ofHeaders])].toSorted()
  for (const language of ["en", "ru"] as const) {
    const explained = [...textOf(language).matchAll(/^\| `(B24RMQ_[A-Z_]+)`/gm)].map(([, name = ""]) => name)
    expect(explained.toSorted()).toEqual(all)
  }
})

live(
  "a thousand odd messages among a thousand good ones: each ends as the table says, and the good ones are done",
  () =>
    Effect.gen(function* () {
      const { url, queueDepth } = yield* vhost
      const portal = yield* openPortal()
      portal.fault({ kind: "huge", bytes: 15 * MiB + 1, when: { containing: hugeAnswer } })
      // Each call is looked at by itself.
      const bridge = yield* startBridge({ env: { AMPQURL: url, B24REST: portal.url, B24RMQ_PACK: "off" } })
      const answers = yield* collector(url, "bitrix24out")
      const odd = thousand()
      const plain = odd.filter((one) => !isDisguised(one)).map(({ message }) => message)
      const mixed = Array.from({ length: 1_000 }, (_, index) =>
        [good[index], plain[index]].filter((one) => one !== undefined)
      ).flat()
      yield* Effect.all(
        [
          publishAll(url, "bitrix24in", mixed),
          publishDisguised(
            url,
            "bitrix24in",
            odd.filter(isDisguised).map(({ message }) => message)
          )
        ],
        { concurrency: 2 }
      )
      yield* until(
        "2,000 answers",
        Effect.sync(() => answers.received() >= 2_000),
        { within: "40 seconds" }
      )
      yield* answers.quietFor(200)
      expect(answers.received()).toBe(2_000)

      const all = [...answers.answers.values()].flat()
      const byKey = Map.groupBy(all, ({ properties }) => String(properties.correlationId))
      const wrong = odd.flatMap((one) => {
        const got = byKey.get(one.key) ?? []
        const [answer] = got
        const what = answer === undefined || got.length > 1 ? `${got.length} answers` : fault(one, answer)
        return what === undefined ? [] : [`${one.odd.en}: ${what}`]
      })
      expect([...new Set(wrong)]).toEqual([])

      for (const [index, { id }] of good.entries()) {
        const [answer, ...more] = answers.answers.get(id ?? "") ?? []
        expect(more).toEqual([])
        expect(answer).toMatchObject({ outcome: "done", attempts: 1, status: 200 })
        if (index % 2 === 0) expect(answer?.json()).toMatchObject({ result: { index } })
      }
      expect(portal.count("crm.deal.add")).toBe(500)
      expect(portal.doubles()).toEqual([])
      expect(portal.count(rawMethod)).toBe(odd.filter(({ odd }) => odd.outcome === "done").length)
      expect(portal.requests).toBe(1_000 + portal.count(rawMethod))

      expect(yield* queueDepth("bitrix24in")).toMatchObject({ ready: 0, unacked: 0 })
      expect(bridge.ended()).toBeUndefined()
      yield* bridge.kill("SIGTERM")
      expect(yield* bridge.exited).toMatchObject({ code: 0 })
      // Nothing came that the log should worry about but the rejections themselves.
      const told = new Set(bridge.lines().map(({ event }) => event))
      for (const event of ["link-lost", "channel-lost", "broken", "portal-away", "outcome-unknown"]) {
        expect(told).not.toContain(event)
      }
    }),
  60_000
)
