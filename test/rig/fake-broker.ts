import { type Server, type Socket, connect, createServer } from "node:net"
import { Effect, type Scope } from "effect"
import { freePort } from "./ports.ts"
import { RigFailed } from "./until.ts"

/** A frame of AMQP 0-9-1 under its name: `connection.start`, `basic.deliver`, `content.body`, `heartbeat`. */
export interface Seen {
  /** The connection, counted from 1. */
  readonly connection: number
  readonly channel: number
  readonly from: "client" | "broker"
  readonly name: string
}

/** Where the line breaks, and how. */
export interface Break {
  /** The frame by its name; "protocol.header" is the client's first eight bytes. */
  readonly step: string
  /** Which of these in a connection: 2 is the second. The first otherwise. */
  readonly nth?: number
  /** Before the frame has passed, or right after it. */
  readonly when: "before" | "after"
  /** RST, FIN, or nothing more in either direction while the sockets stay open. */
  readonly how: "reset" | "fin" | "silence"
  /** How many connections break; one otherwise. */
  readonly times?: number
}

export interface BreakingBroker {
  readonly port: number
  /** The broker's URL, by way of this one. */
  readonly url: string
  /** Sets where connections break from now on; undefined: nowhere. */
  readonly breakAt: (at: Break | undefined) => Effect.Effect<void>
  /** Loses the frames of which this is true, in either direction, and passes all others on. undefined: loses nothing. */
  readonly withhold: (lost: ((frame: Seen) => boolean) | undefined) => Effect.Effect<void>
  /** How many connections have broken since `breakAt`. */
  readonly broken: () => number
  /** Connections accepted so far. */
  readonly connections: () => number
  /** Every frame that has come, the heartbeats too: what a client does, step by step. */
  readonly seen: () => ReadonlyArray<Seen>
  /** Resets everything that is open, the silent connections too. */
  readonly reset: Effect.Effect<void>
}

// Numbers of classes and methods in the specification of AMQP 0-9-1.
const methods: Readonly<Record<number, readonly [string, Readonly<Record<number, string>>]>> = {
  10: [
    "connection",
    {
      10: "start",
      11: "start-ok",
      20: "secure",
      21: "secure-ok",
      30: "tune",
      31: "tune-ok",
      40: "open",
      41: "open-ok",
      50: "close",
      51: "close-ok",
      60: "blocked",
      61: "unblocked",
      70: "update-secret",
      71: "update-secret-ok"
    }
  ],
  20: ["channel", { 10: "open", 11: "open-ok", 20: "flow", 21: "flow-ok", 40: "close", 41: "close-ok" }],
  40: ["exchange", { 10: "declare", 11: "declare-ok", 20: "delete", 21: "delete-ok" }],
  50: [
    "queue",
    {
      10: "declare",
      11: "declare-ok",
      20: "bind",
      21: "bind-ok",
      30: "purge",
      31: "purge-ok",
      40: "delete",
      41: "delete-ok",
      50: "unbind",
      51: "unbind-ok"
    }
  ],
  60: [
    "basic",
    {
      10: "qos",
      11: "qos-ok",
      20: "consume",
      21: "consume-ok",
      30: "cancel",
      31: "cancel-ok",
      40: "publish",
      50: "return",
      60: "deliver",
      70: "get",
      71: "get-ok",
      72: "get-empty",
      80: "ack",
      90: "reject",
      110: "recover",
      111: "recover-ok",
      120: "nack"
    }
  ],
  85: ["confirm", { 10: "select", 11: "select-ok" }],
  90: ["tx", { 10: "select", 11: "select-ok", 20: "commit", 21: "commit-ok", 30: "rollback", 31: "rollback-ok" }]
}

const nameOf = (frame: Buffer): string => {
  switch (frame[0]) {
    case 1: {
      const [name, names] = methods[frame.readUInt16BE(7)] ?? [`class-${frame.readUInt16BE(7)}`, {}]
      const method = frame.readUInt16BE(9)
      return `${name}.${names[method] ?? method}`
    }
    case 2:
      return "content.header"
    case 3:
      return "content.body"
    case 8:
      return "heartbeat"
    default:
      return `frame-${frame[0]}`
  }
}

const nothing = Buffer.alloc(0)

/**
 * Takes a stream of bytes apart into whole frames: type (1), channel (2), size (4), payload (size), end (1). What the
 * client sends first is no frame but the protocol header, eight bytes that begin with AMQP.
 */
export const frames = (each: (frame: Buffer, name: string, channel: number) => void) => {
  let rest: Buffer = nothing
  return (bytes: Buffer) => {
    rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes])
    while (rest.length >= 8) {
      const header = rest.subarray(0, 4).toString("latin1") === "AMQP"
      const size = header ? 8 : rest.readUInt32BE(3) + 8
      if (rest.length < size) return
      const frame = rest.subarray(0, size)
      rest = rest.subarray(size)
      each(frame, header ? "protocol.header" : nameOf(frame), header ? 0 : frame.readUInt16BE(1))
    }
  }
}

const listening = (port: number, accept: (socket: Socket) => void) =>
  Effect.tryPromise({
    try: () =>
      new Promise<Server>((done, failed) => {
        const server = createServer({ allowHalfOpen: true }, accept)
        server.once("error", failed)
        server.listen(port, "127.0.0.1", () => done(server))
      }),
    catch: (cause) => new RigFailed({ what: "the fake broker cannot listen", cause })
  })

/**
 * A broker that breaks off at a step of one's choice: a real one behind a relay which knows frames. To go through every
 * step of a client, let it connect once, take `seen()`, and break at each of them in turn.
 */
export const startBreakingBroker = (target: string): Effect.Effect<BreakingBroker, RigFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const address = new URL(target)
    const port = yield* freePort
    const all: Array<Seen> = []
    const resets = new Set<() => void>()
    let plan: Break | undefined
    let isLost: (frame: Seen) => boolean = () => false
    let broken = 0
    let connections = 0

    const accept = (client: Socket) => {
      const connection = ++connections
      const broker = connect({ port: Number(address.port), host: address.hostname, allowHalfOpen: true, noDelay: true })
      const counts = new Map<string, number>()
      let state: "open" | "silent" | "over" = "open"
      const reset = () => {
        state = "over"
        resets.delete(reset)
        client.resetAndDestroy()
        broker.resetAndDestroy()
      }
      resets.add(reset)
      const breakOff = (how: Break["how"]) => {
        broken++
        if (how === "silence") {
          state = "silent"
          return
        }
        state = "over"
        // Behind the frame before it: a reset at once would overtake it.
        setTimeout(() => {
          if (how === "reset") return reset()
          client.end()
          broker.end()
        }, 20)
      }
      const relay = (source: Socket, to: Socket, from: Seen["from"]) => {
        const take = frames((frame, name, channel) => {
          if (state !== "open") return
          const seen: Seen = { connection, channel, from, name }
          all.push(seen)
          if (isLost(seen)) return
          const count = (counts.get(name) ?? 0) + 1
          counts.set(name, count)
          const here =
            plan !== undefined && plan.step === name && count === (plan.nth ?? 1) && broken < (plan.times ?? 1)
          if (here && plan?.when === "before") return breakOff(plan.how)
          to.write(frame)
          if (here && plan !== undefined) breakOff(plan.how)
        })
        source.on("error", () => undefined)
        source.on("data", take)
        source.on("end", () => state === "open" && to.end())
        source.on("close", (failed: boolean) => {
          if (failed && state === "open") reset()
          if (client.destroyed && broker.destroyed) resets.delete(reset)
        })
      }
      client.setNoDelay(true)
      relay(client, broker, "client")
      relay(broker, client, "broker")
    }

    const resetAll = Effect.sync(() => {
      for (const reset of resets) reset()
    })
    yield* Effect.acquireRelease(listening(port, accept), (server) =>
      Effect.andThen(
        Effect.sync(() => server.close()),
        resetAll
      )
    )
    const through = new URL(target)
    through.port = `${port}`
    return {
      port,
      url: through.href,
      breakAt: (at) =>
        Effect.sync(() => {
          plan = at
          broken = 0
        }),
      withhold: (lost) =>
        Effect.sync(() => {
          isLost = lost ?? (() => false)
        }),
      broken: () => broken,
      connections: () => connections,
      seen: () => all,
      reset: resetAll
    }
  })

export interface SilentListener {
  readonly port: number
  readonly url: string
  /** Connections accepted so far. */
  readonly connections: () => number
  /** Bytes that have come. */
  readonly received: () => number
}

/** Accepts connections, reads, and never says a word. */
export const startSilentListener: Effect.Effect<SilentListener, RigFailed, Scope.Scope> = Effect.gen(function* () {
  const port = yield* freePort
  const open = new Set<Socket>()
  let connections = 0
  let received = 0
  const accept = (socket: Socket) => {
    connections++
    open.add(socket)
    socket.on("error", () => undefined)
    socket.on("data", (bytes: Buffer) => (received += bytes.length))
    socket.on("end", () => socket.end())
    socket.once("close", () => open.delete(socket))
  }
  yield* Effect.acquireRelease(listening(port, accept), (server) =>
    Effect.sync(() => {
      server.close()
      for (const socket of open) socket.destroy()
    })
  )
  return {
    port,
    url: `amqp://guest:guest@127.0.0.1:${port}/`,
    connections: () => connections,
    received: () => received
  }
})
