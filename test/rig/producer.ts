import type { Socket } from "node:net"
import { type ChannelModel, type ConsumeMessage, type Options, connect } from "amqplib"
import { type Duration, Effect, type Scope } from "effect"
import { RigFailed, until } from "./until.ts"

// Plain amqplib, on purpose: what checks the bridge shares no code with it.

/** A message as a producer of requests would send it. */
export interface Message {
  /** The message_id; undefined where the test leaves it out. */
  readonly id: string | undefined
  readonly content: Buffer
  readonly options: Options.Publish
}

/** A request for the portal. All of it can be replaced, to be wrong in every way a producer can. */
export interface Asked {
  readonly method?: unknown
  readonly user?: unknown
  readonly token?: unknown
  /** The JSON body; a Buffer or a string is sent as it is. */
  readonly params?: unknown
  readonly messageId?: string | undefined
  /** More headers, or others: a header that is undefined is left out. */
  readonly headers?: Readonly<Record<string, unknown>>
  /** More properties, such as correlationId, replyTo, expiration. */
  readonly properties?: Options.Publish
}

/** The request message of the product's contract. Without an id given it has a new one. */
export const queueRequest = (asked: Asked = {}): Message => {
  const { method = "profile", user = "1", token = "secret0token", params = {} } = asked
  const id = "messageId" in asked ? asked.messageId : crypto.randomUUID()
  const headers = Object.fromEntries(
    Object.entries({ method, user, token, ...asked.headers }).filter(([, value]) => value !== undefined)
  )
  const content = Buffer.isBuffer(params)
    ? params
    : Buffer.from(typeof params === "string" ? params : JSON.stringify(params))
  return {
    id,
    content,
    options: {
      contentType: "application/json",
      persistent: true,
      headers,
      ...(id === undefined ? {} : { messageId: id }),
      ...asked.properties
    }
  }
}

/** Makes `count` requests; `asked` gives what differs in each. */
export const requests = (count: number, asked: (index: number) => Asked = () => ({})): ReadonlyArray<Message> =>
  Array.from({ length: count }, (_, index) => queueRequest(asked(index)))

// A frozen or half-open broker is noticed by the harness too, within two of these.
const heartbeat = 5

const pause = (ms: number) => new Promise<void>((done) => setTimeout(done, ms))

/** A link, or undefined where the broker is not to be had now. */
const dial = async (url: string): Promise<ChannelModel | undefined> => {
  const address = new URL(url)
  address.searchParams.set("heartbeat", `${heartbeat}`)
  try {
    const link = await connect(address.href, { timeout: 3_000, noDelay: true })
    link.on("error", () => undefined)
    return link
  } catch {
    return undefined
  }
}

/** Closes a link in good order, or cuts it where the broker does not answer. */
const hangUp = async (link: ChannelModel) => {
  await Promise.race([link.close().catch(() => undefined), pause(1_000)])
  ;(link.connection as unknown as { readonly stream: Socket }).stream.destroy()
}

/** Keeps `session` going on one link after the other until it says that it is done. */
const throughFaults = async (
  url: string,
  stopped: () => boolean,
  session: (link: ChannelModel, lost: Promise<void>) => Promise<"done" | "lost">
) => {
  while (!stopped()) {
    const link = await dial(url)
    if (link !== undefined) {
      const lost = new Promise<void>((done) => link.once("close", () => done()))
      try {
        if ((await session(link, lost)) === "done") return
      } catch {
        // a channel that was closed under us, a queue that is not there yet: once more
      } finally {
        await hangUp(link)
      }
    }
    await pause(50)
  }
}

/** Does `work` on one connection, which is closed afterwards. */
export const onLink = <A>(url: string, work: (link: ChannelModel) => Promise<A>): Effect.Effect<A, RigFailed> =>
  Effect.tryPromise({
    try: async () => {
      const link = await connect(url, { timeout: 5_000 })
      link.on("error", () => undefined)
      try {
        return await work(link)
      } finally {
        await hangUp(link)
      }
    },
    catch: (cause) => new RigFailed({ what: "the broker refused", cause })
  })

export interface Queues {
  readonly in?: string
  readonly out?: string
  readonly type?: "classic" | "quorum"
  /** Arguments for both queues, such as { "x-max-length": 10 }. */
  readonly arguments?: Readonly<Record<string, unknown>>
}

/** Declares the durable queues. */
export const declareQueues = (url: string, queues: Queues): Effect.Effect<void, RigFailed> =>
  onLink(url, async (link) => {
    const channel = await link.createChannel()
    channel.on("error", () => undefined)
    for (const name of [queues.in, queues.out]) {
      if (name === undefined) continue
      await channel.assertQueue(name, {
        durable: true,
        arguments: { "x-queue-type": queues.type ?? "classic", ...queues.arguments }
      })
    }
  })

export interface Published {
  /** Messages that the broker has confirmed. */
  readonly confirmed: number
  /** Messages that were sent more than once, because the link was lost before their confirm. */
  readonly republished: number
  /** message_ids that the broker has refused (a full queue). */
  readonly refused: ReadonlyArray<string>
  /** message_ids that came back because no queue took them. */
  readonly returned: ReadonlyArray<string>
  readonly ms: number
}

export interface Publishing {
  /** Waits for the broker's confirms and sends again what was not confirmed; true unless told otherwise. */
  readonly confirm?: boolean
  /** Messages in a second; as fast as they go otherwise. */
  readonly rate?: number
  /** Unconfirmed messages at most. */
  readonly window?: number
  /** Told of each message when it is sent, and of one that is sent again once more. */
  readonly sent?: (message: Message) => void
  readonly within?: Duration.Input
}

const publishing = async (
  url: string,
  queue: string,
  messages: ReadonlyArray<Message>,
  options: Publishing,
  stopped: () => boolean
): Promise<Published> => {
  const started = performance.now()
  const { rate = Infinity, window = 2_000, confirm = true, sent } = options
  const waiting = new Set<number>()
  const refused: Array<string> = []
  const returned: Array<string> = []
  let next = 0
  let confirmed = 0
  let republished = 0
  const idOf = (index: number) => messages[index]?.id ?? ""
  await throughFaults(url, stopped, async (link, lost) => {
    const channel = confirm ? await link.createConfirmChannel() : await link.createChannel()
    channel.on("error", () => undefined)
    channel.on("return", (message) => returned.push(String(message.properties.messageId ?? "")))
    const over = new Promise<"lost">((done) => {
      channel.once("close", () => done("lost"))
      void lost.then(() => done("lost"))
    })
    const finished = new Promise<"done">((done, failed) => {
      const settle = (index: number, error: Error | null) => {
        if (error !== null && !/nack/.test(error.message)) return
        waiting.delete(index)
        if (error === null) confirmed++
        else refused.push(idOf(index))
        pump()
      }
      const send = (index: number) => {
        const message = messages[index]
        if (message === undefined) return
        sent?.(message)
        const options = { mandatory: true, ...message.options }
        if (!confirm) {
          channel.sendToQueue(queue, message.content, options)
          return
        }
        const send = channel.sendToQueue as (
          queue: string,
          content: Buffer,
          options: Options.Publish,
          settled: (error: Error | null) => void
        ) => boolean
        send.call(channel, queue, message.content, options, (error) => settle(index, error))
      }
      const pump = () => {
        const due = Math.min(messages.length, ((performance.now() - started) / 1_000) * rate)
        while (next < due && waiting.size < window) {
          const index = next++
          if (confirm) waiting.add(index)
          else confirmed++
          send(index)
        }
        if (next >= messages.length && waiting.size === 0) {
          clearInterval(clock)
          done("done")
        }
      }
      const clock = setInterval(() => {
        try {
          pump()
        } catch (error) {
          clearInterval(clock)
          failed(error)
        }
      }, 10)
      void over.then(() => clearInterval(clock))
      for (const index of waiting) {
        republished++
        send(index)
      }
      pump()
    })
    return Promise.race([finished, over])
  })
  return { confirmed, republished, refused, returned, ms: performance.now() - started }
}

/** Publishes all messages, through whatever happens to the broker, and tells how it went once all are confirmed. */
export const publishAll = (
  url: string,
  queue: string,
  messages: ReadonlyArray<Message>,
  options: Publishing = {}
): Effect.Effect<Published, RigFailed> =>
  Effect.tryPromise({
    try: (signal) => publishing(url, queue, messages, options, () => signal.aborted),
    catch: (cause) => new RigFailed({ what: `publishing to ${queue}`, cause })
  }).pipe(
    Effect.timeoutOrElse({
      duration: options.within ?? "2 minutes",
      orElse: () => Effect.fail(new RigFailed({ what: `publishing to ${queue} takes too long` }))
    })
  )

/** An answer as its reader gets it. */
export interface Answer {
  readonly id: string
  /** x-b24rmq-outcome */
  readonly outcome: string | undefined
  /** x-b24rmq-status */
  readonly status: number | undefined
  /** x-b24rmq-attempts */
  readonly attempts: number | undefined
  /** x-b24rmq-method */
  readonly method: string | undefined
  readonly body: Buffer
  /** The body as JSON; throws where it is none. */
  readonly json: () => unknown
  readonly headers: Readonly<Record<string, unknown>>
  readonly properties: ConsumeMessage["properties"]
  readonly redelivered: boolean
  /** When it came, in milliseconds of performance.now(). */
  readonly at: number
}

/** The answers by message_id; those without one are under "". */
export type Answers = ReadonlyMap<string, ReadonlyArray<Answer>>

const text = (value: unknown) => (value === undefined || value === null ? undefined : String(value))
const number = (value: unknown) => (value === undefined || value === null ? undefined : Number(value))

const answerOf = (message: ConsumeMessage): Answer => {
  const headers: Readonly<Record<string, unknown>> = message.properties.headers ?? {}
  return {
    id: text(message.properties.messageId) ?? "",
    outcome: text(headers["x-b24rmq-outcome"]),
    status: number(headers["x-b24rmq-status"]),
    attempts: number(headers["x-b24rmq-attempts"]),
    method: text(headers["x-b24rmq-method"]),
    body: message.content,
    json: () => JSON.parse(message.content.toString()),
    headers,
    properties: message.properties,
    redelivered: message.fields.redelivered,
    at: performance.now()
  }
}

export interface Collector {
  /** What has come so far. */
  readonly answers: Answers
  /** How many messages have come, duplicates too. */
  readonly received: () => number
  /** Waits until `count` different message_ids have been answered. */
  readonly has: (count: number, within?: Duration.Input) => Effect.Effect<Answers, RigFailed>
  /** Waits for the first answer to this message_id. */
  readonly answerTo: (id: string, within?: Duration.Input) => Effect.Effect<Answer, RigFailed>
  /** Waits until nothing has come for that long. */
  readonly quietFor: (span: number, within?: Duration.Input) => Effect.Effect<Answers, RigFailed>
}

/**
 * Reads the answer queue and acknowledges, reconnecting through faults, until the scope closes. Acknowledgements do not
 * survive a kill of the broker: where the broker is killed while this reads, the broker itself hands out answers twice.
 * To count what the bridge has published, collect after the last fault.
 */
export const collector = (
  url: string,
  queue: string,
  options: { readonly prefetch?: number } = {}
): Effect.Effect<Collector, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const answers = new Map<string, Array<Answer>>()
      let received = 0
      let last = performance.now()
      let stopped = false
      let stop = () => {
        stopped = true
      }
      const asked = new Promise<"done">((done) => {
        stop = () => {
          stopped = true
          done("done")
        }
      })
      const reading = throughFaults(
        url,
        () => stopped,
        async (link, lost) => {
          const channel = await link.createChannel()
          channel.on("error", () => undefined)
          await channel.prefetch(options.prefetch ?? 500)
          const over = new Promise<"lost">((done) => {
            channel.once("close", () => done("lost"))
            void lost.then(() => done("lost"))
            void channel
              .consume(queue, (message) => {
                if (message === null) return done("lost")
                const answer = answerOf(message)
                const known = answers.get(answer.id)
                if (known === undefined) answers.set(answer.id, [answer])
                else known.push(answer)
                received++
                last = answer.at
                channel.ack(message)
              })
              .catch(() => done("lost"))
          })
          return Promise.race([asked, over])
        }
      )
      const self: Collector = {
        answers,
        received: () => received,
        has: (count, within = "60 seconds") =>
          until(
            `${count} answers in ${queue}`,
            Effect.sync(() => answers.size >= count && answers),
            { within }
          ).pipe(Effect.mapError((error) => new RigFailed({ what: `${error.message}; ${answers.size} came` }))),
        answerTo: (id, within = "20 seconds") =>
          until(
            `an answer to ${id} in ${queue}`,
            Effect.sync(() => answers.get(id)?.[0]),
            { within }
          ),
        quietFor: (span, within = "60 seconds") =>
          until(
            `${queue} is quiet for ${span} ms`,
            Effect.sync(() => performance.now() - last >= span && answers),
            { within }
          )
      }
      return { self, reading, stop: () => stop() }
    }),
    ({ reading, stop }) =>
      Effect.promise(() => {
        stop()
        return reading
      })
  ).pipe(Effect.map(({ self }) => self))

/** Collects until `count` different message_ids are answered. */
export const collect = (
  url: string,
  queue: string,
  options: { readonly until: number; readonly within?: Duration.Input }
): Effect.Effect<Answers, RigFailed> =>
  Effect.scoped(Effect.flatMap(collector(url, queue), (collecting) => collecting.has(options.until, options.within)))

export interface Checked {
  readonly sent: number
  /** Different message_ids that have an answer. */
  readonly answered: number
  /** Sent and never answered. */
  readonly lost: ReadonlyArray<string>
  /** Answered more than once. */
  readonly duplicated: ReadonlyArray<string>
  /** Answered more than once, and not with the same bytes and outcome. */
  readonly different: ReadonlyArray<string>
  /** Answered and never sent. */
  readonly unasked: ReadonlyArray<string>
  /** Messages by their outcome: a duplicate counts again. */
  readonly byOutcome: Readonly<Record<string, number>>
}

/** Compares what was sent with what was answered. */
export const checkAnswers = (sent: Iterable<Message | string>, answers: Answers): Checked => {
  const ids = new Set<string>()
  for (const message of sent) ids.add(typeof message === "string" ? message : (message.id ?? ""))
  const all = [...answers]
  const byOutcome: Record<string, number> = {}
  for (const [, list] of all) {
    for (const { outcome = "none" } of list) byOutcome[outcome] = (byOutcome[outcome] ?? 0) + 1
  }
  const twice = all.filter(([, list]) => list.length > 1)
  return {
    sent: ids.size,
    answered: all.filter(([id]) => ids.has(id)).length,
    lost: [...ids].filter((id) => !answers.has(id)),
    duplicated: twice.map(([id]) => id),
    different: twice
      .filter(([, list]) => list.some((one) => one.outcome !== list[0]?.outcome || !list[0]?.body.equals(one.body)))
      .map(([id]) => id),
    unasked: all.filter(([id]) => !ids.has(id)).map(([id]) => id),
    byOutcome
  }
}
