import { readdirSync, readFileSync } from "node:fs"
import { connect } from "amqplib"
import { type Duration, Effect } from "effect"
import { type Bridge, startBridge } from "../../test/rig/bridge.ts"
import { declareQueues, type Message, publishAll, queueRequest } from "../../test/rig/producer.ts"
import { vhost } from "../../test/rig/rabbit.ts"
import { RigFailed, until } from "../../test/rig/until.ts"
import type { Contestant } from "./contestants.ts"

export const queueIn = "bitrix24in"
export const queueOut = "bitrix24out"

const read = (path: string) => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return "" // it has ended meanwhile
  }
}

/** CPU seconds of a process group up to now, ended children included, and the sum of the peaks of its memory in bytes. */
export const usageOf = (group: number) => {
  let ticks = 0
  let peak = 0
  for (const pid of readdirSync("/proc")) {
    if (!/^\d+$/.test(pid)) continue
    const fields = read(`/proc/${pid}/stat`).replace(/.*\) /s, "").split(" ")
    if (Number(fields[2]) !== group) continue
    for (const field of fields.slice(11, 15)) ticks += Number(field)
    peak += Number(/^VmHWM:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024
  }
  return { cpu: ticks / 100, peak }
}

/** What the packaged unit puts into the bridge's environment. */
const unit = readFileSync(new URL("../../packaging/b24rmq.service", import.meta.url), "utf8")
const ofUnit = Object.fromEntries(
  Array.from(unit.matchAll(/^Environment=(\w+)=(.*)$/gm), ([, name, value]) => [name, value])
)

/** A portal that does nothing, in a process of its own. */
export const idlePortal = Effect.fnUntraced(function* (size = 300) {
  const portal = yield* startBridge({
    program: [process.execPath, new URL("../rivals/portal.ts", import.meta.url).pathname],
    env: { SIZE: `${size}` },
    ready: false
  })
  const { fields } = yield* portal.waitForLine("listening")
  return `http://127.0.0.1:${Number(fields?.["port"])}/rest/`
})

/** The requests of a contestant. */
export const asked = ({ asks }: Contestant, count: number): ReadonlyArray<Message> =>
  Array.from({ length: count }, (_, index) =>
    asks === "reads"
      ? queueRequest({ method: "crm.deal.list", params: { filter: { ID: index } } })
      : queueRequest({ method: "crm.deal.add", params: { fields: { TITLE: `deal ${index}` } } })
  )

/** A vhost with its queues, and a link on which queues can be looked into for next to nothing. */
export const stand = Effect.fnUntraced(function* () {
  const broker = yield* vhost
  yield* declareQueues(broker.url, { in: queueIn, out: queueOut })
  const link = yield* Effect.acquireRelease(
    Effect.promise(() => connect(broker.url, { noDelay: true })),
    (link) => Effect.promise(() => link.close())
  )
  const channel = yield* Effect.promise(() => link.createChannel())
  const depth = Effect.promise(() => channel.checkQueue(queueOut)).pipe(Effect.map(({ messageCount }) => messageCount))
  let running: Bridge | undefined
  const start = (contestant: Contestant, rest: string, env: Readonly<Record<string, string>> = {}) =>
    Effect.flatMap(
      Effect.promise(async () => contestant.program?.()),
      (program) =>
        startBridge({
          env: {
            AMPQURL: broker.url,
            B24REST: rest,
            ...(program === undefined ? ofUnit : {}),
            ...contestant.env,
            ...env
          },
          ...(program === undefined ? {} : { program })
        })
    ).pipe(Effect.tap((program) => Effect.sync(() => (running = program))))
  /** Waits until so many answers lie in the queue. */
  const answered = (count: number, within: Duration.Input = "10 minutes") =>
    until(
      `${count} answers`,
      Effect.flatMap(depth, (depth) =>
        depth < count && running?.ended() !== undefined
          ? Effect.fail(new RigFailed({ what: `it ended after ${depth} answers: ${running.output().slice(-500)}` }))
          : Effect.succeed(depth >= count && depth)
      ),
      { within, every: "10 millis" }
    )
  /** Has it work off a backlog first, so that what comes then finds a program that is compiled. */
  const warmUp = (contestant: Contestant, count: number) =>
    Effect.gen(function* () {
      const messages = asked(contestant, Math.ceil(count / (contestant.fewer ?? 1)))
      yield* publishAll(broker.url, queueIn, messages)
      yield* answered(messages.length)
      yield* Effect.promise(() => channel.purgeQueue(queueOut))
    })
  return { broker, channel, start, answered, warmUp, publish: publishAll.bind(undefined, broker.url, queueIn) }
})
