import type { ChannelModel } from "amqplib"
import { Clock, Console, Data, Deferred, Effect, Layer, Option, Redacted, Runtime, type Scope } from "effect"
import { bridge } from "../bridge/bridge.ts"
import type { Dispatch } from "../bridge/dispatch.ts"
import type { Pause } from "../bridge/pause.ts"
import type { Tally } from "../bridge/tally.ts"
import type { Journeys } from "../bridge/journeys.ts"
import type { Replay } from "../bridge/replay.ts"
import type { Journal } from "../journal/journal.ts"
import { Dial, type LinkFailed } from "../queue/connection.ts"
import type { Intake } from "../queue/intake.ts"
import type { Outlet } from "../queue/outlet.ts"
import type { Parked } from "../queue/parked.ts"
import { type Environment, Settings } from "../settings.ts"
import { embeddedBroker } from "./broker.ts"
import { openPortal } from "./portal/server.ts"
import { type Sample, samples } from "./requests.ts"

export interface DemoOptions {
  readonly count: number
  /** The webhook for a portal that is not simulated. */
  readonly webhook: Option.Option<{ readonly user: string; readonly token: Redacted.Redacted<string> }>
}

/** Not every request has its answer, or the demo cannot run as asked. */
export class DemoFailed extends Data.TaggedError("DemoFailed")<{ readonly message: string }> {
  override readonly [Runtime.errorReported] = false
}

type Engine = Intake | Outlet | Parked | Journal | Dispatch | Journeys | Pause | Tally | Replay

/** How long the demo waits for the next answer before it says that the rest is lost. */
const patience = "30 seconds"

/**
 * Runs the whole bridge on an embedded broker and a simulated portal, or on those that `AMPQURL` and `B24REST` name;
 * sends requests, waits for their answers, and prints what became of them. `engine`: the layers of the daemon.
 */
export const demo = <E>(
  environment: Environment,
  engine: Layer.Layer<Engine, E, Dial | Settings>,
  { count, webhook }: DemoOptions
) =>
  Effect.gen(function* () {
    const simulated = !environment.B24REST
    const embedded = !environment.AMPQURL && !environment.AMQPURL
    if (!simulated && Option.isNone(webhook)) {
      return yield* new DemoFailed({
        message: "B24REST names a real portal: give --user and --token of a webhook there"
      })
    }
    const portal = simulated ? yield* openPortal({ latency: { call: 2 } }) : undefined
    const settings = Settings.layerOf({
      B24RMQ_LOG_LEVEL: "error",
      AMPQURL: "amqp://embedded",
      ...environment,
      ...(portal === undefined ? {} : { B24REST: portal.url }),
      // Queues of its own: nothing of a demo reaches a producer, and no real request reaches the demo.
      AMPQIN: "b24rmq.demo.in",
      AMPQOUT: "b24rmq.demo.out",
      B24RMQ_REJECTED: "no"
    })
    yield* Console.log(
      `Broker: ${embedded ? "embedded" : "AMPQURL"}. Portal: ${simulated ? "simulated" : "B24REST, only read"}. Requests: ${count}.`
    )
    const { user, token } = Option.getOrElse(webhook, () => ({ user: "1", token: Redacted.make("sandbox") }))
    const play = exchange(samples(count, simulated), { user, token: Redacted.value(token) }).pipe(
      Effect.raceFirst(Effect.andThen(bridge, Effect.never)),
      Effect.scoped,
      Effect.provide(engine)
    )
    return yield* play.pipe(Effect.provide(embedded ? embeddedBroker : Dial.layer), Effect.provide(settings))
  }).pipe(Effect.scoped)

interface Answered {
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

/** Sends all, collects all, prints the table. */
const exchange = (
  requests: ReadonlyArray<Sample>,
  credential: { readonly user: string; readonly token: string }
): Effect.Effect<void, DemoFailed | LinkFailed, Dial | Settings | Scope.Scope> =>
  Effect.gen(function* () {
    const settings = yield* Settings
    const { dial } = yield* Dial
    const { model } = yield* Effect.acquireRelease(dial, ({ model }) =>
      Effect.promise(() => model.close().catch(() => {}))
    )
    const answers = new Map<string, Answered>()
    const complete = yield* Deferred.make<void>()
    yield* Effect.promise(() => prepare(model, [...settings.ampqIn, settings.ampqOut]))
    yield* Effect.addFinalizer(() => Effect.promise(() => tidy(model, [...settings.ampqIn, settings.ampqOut])))
    yield* Effect.promise(() =>
      collect(model, settings.ampqOut, (id, answer) => {
        answers.set(id, answer)
        if (answers.size === requests.length) Deferred.doneUnsafe(complete, Effect.void)
      })
    )
    const start = yield* Clock.currentTimeMillis
    yield* Effect.promise(() => send(model, settings.ampqIn[0], requests, credential))
    const enqueued = (yield* Clock.currentTimeMillis) - start
    yield* Effect.raceFirst(Deferred.await(complete), showProgress(answers, requests.length))
    const took = (yield* Clock.currentTimeMillis) - start
    yield* draw(answers.size, requests.length)
    yield* Console.log(`\n${table(requests.length, answers, enqueued, took)}\n`)
    for (const wanted of ["done", "refused"]) yield* showOne(requests, answers, wanted)
    const lost = requests.length - answers.size
    if (lost > 0) return yield* new DemoFailed({ message: `${lost} of ${requests.length} requests have no answer` })
  })

const prepare = async (model: ChannelModel, queues: ReadonlyArray<string>) => {
  const channel = await model.createChannel()
  for (const queue of queues) {
    await channel.assertQueue(queue, { durable: true })
    await channel.purgeQueue(queue)
  }
  await channel.close()
}

const tidy = async (model: ChannelModel, queues: ReadonlyArray<string>) => {
  const channel = await model.createChannel()
  for (const queue of queues) await channel.deleteQueue(queue)
}

const collect = async (model: ChannelModel, queue: string, take: (id: string, answer: Answered) => void) => {
  const channel = await model.createChannel()
  await channel.consume(queue, (message) => {
    if (message === null) return
    const { headers = {}, messageId } = message.properties
    take(String(messageId), { headers, body: message.content.toString("utf8") })
    channel.ack(message)
  })
}

const send = async (
  model: ChannelModel,
  queue: string,
  requests: ReadonlyArray<Sample>,
  credential: { readonly user: string; readonly token: string }
) => {
  const channel = await model.createConfirmChannel()
  for (const [n, { method, body }] of requests.entries()) {
    const options = {
      persistent: true,
      contentType: "text/json",
      messageId: idOf(n),
      headers: { method, ...credential }
    }
    if (!channel.sendToQueue(queue, Buffer.from(body), options)) await channel.waitForConfirms()
  }
  await channel.waitForConfirms()
}

const idOf = (n: number) => `demo-${n + 1}`

const width = 40

const draw = (done: number, all: number) =>
  Effect.sync(() => {
    if (!process.stdout.isTTY) return
    const filled = Math.floor((done / all) * width)
    process.stdout.write(`\r[${"#".repeat(filled)}${".".repeat(width - filled)}] ${done}/${all}`)
  })

/** Draws until nothing has come for too long. */
const showProgress = (answers: ReadonlyMap<string, Answered>, all: number) =>
  Effect.gen(function* () {
    let last = -1
    const stalled = Effect.gen(function* () {
      while (answers.size !== last) {
        last = answers.size
        yield* Effect.sleep(patience)
      }
    })
    yield* Effect.raceFirst(
      stalled,
      Effect.forever(Effect.andThen(draw(answers.size, all), Effect.sleep("100 millis")))
    )
  })

const outcomeOf = (answer: Answered) => String(answer.headers["x-b24rmq-outcome"])

const table = (sent: number, answers: ReadonlyMap<string, Answered>, enqueued: number, took: number) => {
  const count = (word: string) => [...answers.values()].filter((answer) => outcomeOf(answer) === word).length
  const rows: ReadonlyArray<readonly [string, string]> = [
    ["sent", String(sent)],
    ["answered", String(answers.size)],
    ["  done", String(count("done"))],
    ["  refused", String(count("refused"))],
    ["  rejected", String(count("rejected"))],
    ["  unknown", String(count("unknown"))],
    ["lost", String(sent - answers.size)],
    ["enqueued in", `${(enqueued / 1_000).toFixed(2)} s`],
    ["answered in", `${(took / 1_000).toFixed(2)} s`],
    ["rate", `${Math.round((answers.size / Math.max(1, took)) * 1_000)}/s`]
  ]
  return rows.map(([name, value]) => `${name.padEnd(14)}${value.padStart(10)}`).join("\n")
}

/** One exchange in full, as a producer sees it; the token is not shown. */
const showOne = (requests: ReadonlyArray<Sample>, answers: ReadonlyMap<string, Answered>, outcome: string) => {
  const found = requests
    .map((request, n) => ({ request, id: idOf(n), answer: answers.get(idOf(n)) }))
    .find(({ answer }) => answer !== undefined && outcomeOf(answer) === outcome)
  if (found?.answer === undefined) return Effect.void
  const { request, id, answer } = found
  return Console.log(
    [
      `--- a request that was ${outcome}`,
      `> message_id: ${id}`,
      `> headers: method=${request.method} user=... token=...`,
      `> ${request.body}`,
      `< message_id: ${id}`,
      ...Object.entries(answer.headers).map(([name, value]) => `< ${name}: ${String(value)}`),
      `< ${answer.body.length > 2_000 ? `${answer.body.slice(0, 2_000)}...` : answer.body}`,
      ""
    ].join("\n")
  )
}
