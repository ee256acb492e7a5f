import { type Duration, Effect } from "effect"
import { openPortal, type Portal, type PortalOptions } from "../../src/sandbox/portal/server.ts"
import { type BridgeOptions, startBridge } from "../../test/rig/bridge.ts"
import { type Answers, checkAnswers, collector, declareQueues, type Message } from "../../test/rig/producer.ts"
import { vhost } from "../../test/rig/rabbit.ts"
import { RigFailed } from "../../test/rig/until.ts"
import { witness } from "./witness.ts"

export const queueIn = "bitrix24in"
export const queueOut = "bitrix24out"

/**
 * A simulated portal behind a real socket, a vhost of a real RabbitMQ with its queues, and somebody who reads the
 * answers. All of it is in this process but the broker and the bridge: their load is measured, ours is not.
 */
export const scene = Effect.fnUntraced(function* (options: PortalOptions = {}) {
  const broker = yield* vhost
  const portal = yield* openPortal({ keep: 200_000, ...options })
  const seen = yield* witness(portal)
  yield* declareQueues(broker.url, { in: queueIn, out: queueOut })
  const answers = yield* collector(broker.url, queueOut)
  const start = (env: Readonly<Record<string, string>> = {}, other: BridgeOptions = {}) =>
    startBridge({ ...other, env: { AMPQURL: broker.url, B24REST: portal.url, ...env } })
  /** Waits until the portal has seen something. */
  const saw = (what: string, enough: (portal: Portal) => boolean, within: Duration.Input = "2 minutes") =>
    Effect.timeoutOrElse(portal.until(enough), {
      duration: within,
      orElse: () => Effect.fail(new RigFailed({ what: `the portal has not seen ${what}` }))
    })
  return { broker, portal, seen, answers, start, saw }
})

/** When the last of these was answered, in milliseconds of `performance.now()`. */
export const lastAnswer = (answers: Answers, to?: ReadonlyArray<Message>): number => {
  let last = -Infinity
  const lists = to === undefined ? answers.values() : to.map(({ id }) => answers.get(id ?? "") ?? [])
  for (const list of lists) for (const { at } of list) last = Math.max(last, at)
  return last
}

/** What was sent and how it was answered: counts that have to be nought. */
export const wrongs = (sent: ReadonlyArray<Message>, answers: Answers) => {
  const checked = checkAnswers(sent, answers)
  let statuses = 0
  for (const list of answers.values()) for (const { status } of list) if (status === 429 || status === 503) statuses++
  const { done = 0 } = checked.byOutcome
  return {
    unanswered: checked.lost.length,
    twice: checked.duplicated.length,
    notDone: Object.values(checked.byOutcome).reduce((sum, count) => sum + count, 0) - done,
    sawLimits: statuses
  }
}

/** How many answers came out of a batch. */
export const packed = (answers: Answers): number => {
  let count = 0
  for (const list of answers.values()) for (const { headers } of list) if (headers["x-b24rmq-packed"] === true) count++
  return count
}
