import { type Server, type Socket, connect, createServer } from "node:net"
import { Effect, type Scope } from "effect"
import { freePort } from "./ports.ts"
import { RigFailed } from "./until.ts"

/** `up` goes from the client to the target, `down` comes back. */
export type Direction = "up" | "down"

export interface Traffic {
  readonly up: number
  readonly down: number
}

/** A way through TCP that can be made bad. All faults but `resetAfter` hold for connections of now and of later. */
export interface Proxy {
  readonly port: number
  /** The target's URL, by way of the proxy. */
  readonly url: string
  /** Connections accepted so far, and those open now. */
  readonly connections: () => { readonly total: number; readonly open: number }
  /** Bytes that the two sides have sent and the proxy has read. */
  readonly bytes: () => Traffic
  /** Waits until the proxy has read enough; looked at with everything that it reads. */
  readonly until: (enough: (bytes: Traffic) => boolean) => Effect.Effect<void>
  /** Resets all connections now, on both sides. */
  readonly cut: Effect.Effect<void>
  /** Ends all connections in good order (FIN), on both sides. */
  readonly end: Effect.Effect<void>
  /**
   * "closed": nobody listens, a new connection is refused; "reset": it is accepted and reset at once. What is open
   * stays open. false: as before.
   */
  readonly refuse: (how: "closed" | "reset" | false) => Effect.Effect<void, RigFailed>
  /**
   * A dead line: sockets stay open and nothing passes, no end and no reset either. What is sent meanwhile is held and
   * passes afterwards ("hold"), or is lost ("drop": the stream is then broken for good).
   */
  readonly halfOpen: (how: "hold" | "drop" | false, direction?: Direction) => Effect.Effect<void>
  /** Stops reading from that side, so that its writes pile up. Both sides where none is named. */
  readonly stall: (on: boolean, direction?: Direction) => Effect.Effect<void>
  /** Passes everything that much later, in milliseconds. 0: at once. */
  readonly delay: (ms: number, direction?: Direction) => Effect.Effect<void>
  /** Passes so many bytes in a second and connection. undefined: all. */
  readonly bandwidth: (bytesPerSecond: number | undefined, direction?: Direction) => Effect.Effect<void>
  /** The next connection is reset when so many bytes have passed in that direction. */
  readonly resetAfter: (bytes: number, direction: Direction) => Effect.Effect<void>
}

interface Faults {
  dead: "hold" | "drop" | false
  stalled: boolean
  delay: number
  bandwidth: number | undefined
}

interface Pump {
  /** Looks again at what may pass now. */
  readonly turn: () => void
}

interface Connection {
  readonly pumps: ReadonlyArray<Pump>
  readonly reset: () => void
  readonly end: () => void
}

// What waits in the proxy for a slow reader, before it stops reading from the writer.
const highWater = 256 * 1024

/**
 * A reset that is sent right behind some data overtakes it: the receiver is told of the reset first and never reads
 * what it has got. A real reset comes a little later than the data before it.
 */
const behindTheData = (act: () => void) => setTimeout(act, 20)

/** Moves the bytes of one direction. */
const pump = (
  from: Socket,
  to: Socket,
  faults: Faults,
  limit: number,
  count: (bytes: number) => void,
  reset: () => void
) => {
  const waiting: Array<{ readonly bytes: Buffer; readonly at: number }> = []
  let held = 0
  let passed = 0
  let ended = false
  let over = false
  let free = 0
  let timer: NodeJS.Timeout | undefined
  const later = (at: number) => {
    clearTimeout(timer)
    timer = setTimeout(turn, Math.max(1, at - performance.now()))
  }
  const read = () => {
    const stop = faults.stalled || held > highWater || to.writableNeedDrain
    if (stop && !from.isPaused()) from.pause()
    if (!stop && from.isPaused()) from.resume()
  }
  const turn = () => {
    while (!over && faults.dead === false) {
      const next = waiting[0]
      if (next === undefined) {
        if (ended) {
          over = true
          to.end()
        }
        break
      }
      const now = performance.now()
      if (next.at > now || free > now) {
        later(Math.max(next.at, free))
        break
      }
      if (to.writableNeedDrain) break
      const slice = faults.bandwidth === undefined ? next.bytes.length : Math.max(1, Math.floor(faults.bandwidth / 50))
      const bytes = next.bytes.subarray(0, Math.min(slice, limit - passed))
      if (bytes.length === next.bytes.length) waiting.shift()
      else waiting[0] = { bytes: next.bytes.subarray(bytes.length), at: next.at }
      held -= bytes.length
      passed += bytes.length
      if (faults.bandwidth !== undefined) free = Math.max(now, free) + (bytes.length / faults.bandwidth) * 1_000
      to.write(bytes)
      if (passed < limit) continue
      over = true
      behindTheData(reset)
    }
    read()
  }
  from.on("data", (bytes: Buffer) => {
    count(bytes.length)
    if (faults.dead === "drop" || over) return
    waiting.push({ bytes, at: performance.now() + faults.delay })
    held += bytes.length
    turn()
  })
  from.on("end", () => {
    ended = true
    turn()
  })
  from.on("close", (failed: boolean) => {
    if (failed && faults.dead === false) reset()
  })
  to.on("drain", turn)
  return { turn }
}

/** Starts a proxy in front of the target of a URL, for AMQP and HTTP alike. Closed with the scope. */
export const startProxy = (target: string): Effect.Effect<Proxy, RigFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const address = new URL(target)
    const port = yield* freePort
    const up: Faults = { dead: false, stalled: false, delay: 0, bandwidth: undefined }
    const down: Faults = { ...up }
    const bytes = { up: 0, down: 0 }
    const watchers = new Set<() => void>()
    const read = (direction: Direction) => (count: number) => {
      bytes[direction] += count
      for (const look of watchers) look()
    }
    const open = new Set<Connection>()
    let total = 0
    let resetting = false
    let nextLimit = { up: Infinity, down: Infinity }

    const accept = (client: Socket) => {
      total++
      client.on("error", () => undefined)
      if (resetting) return void client.resetAndDestroy()
      const limit = nextLimit
      nextLimit = { up: Infinity, down: Infinity }
      const server = connect({ port: Number(address.port), host: address.hostname, allowHalfOpen: true, noDelay: true })
      server.on("error", () => undefined)
      client.setNoDelay(true)
      const reset = () => {
        open.delete(connection)
        client.resetAndDestroy()
        server.resetAndDestroy()
      }
      const end = () => {
        client.end()
        server.end()
      }
      const pumps = [
        pump(client, server, up, limit.up, read("up"), reset),
        pump(server, client, down, limit.down, read("down"), reset)
      ]
      const connection: Connection = { pumps, reset, end }
      open.add(connection)
      const closed = () => {
        if (client.destroyed && server.destroyed) open.delete(connection)
      }
      client.once("close", closed)
      server.once("close", closed)
    }

    let server: Server | undefined
    const listen = Effect.tryPromise({
      try: () =>
        new Promise<void>((done, failed) => {
          if (server !== undefined) return done()
          const listening = createServer({ allowHalfOpen: true }, accept)
          listening.once("error", failed)
          listening.listen(port, "127.0.0.1", () => {
            server = listening
            done()
          })
        }),
      catch: (cause) => new RigFailed({ what: "the proxy cannot listen", cause })
    })
    const unlisten = Effect.sync(() => {
      server?.close()
      server = undefined
    })
    const resetAll = Effect.sync(() => {
      for (const { reset } of open) reset()
    })
    const change = (direction: Direction | undefined, to: Partial<Faults>) =>
      Effect.sync(() => {
        if (direction !== "down") Object.assign(up, to)
        if (direction !== "up") Object.assign(down, to)
        for (const { pumps } of open) for (const { turn } of pumps) turn()
      })

    yield* Effect.acquireRelease(listen, () => Effect.andThen(unlisten, resetAll))
    const through = new URL(target)
    through.port = `${port}`
    return {
      port,
      url: through.href,
      connections: () => ({ total, open: open.size }),
      bytes: () => ({ ...bytes }),
      until: (enough) =>
        Effect.callback<void>((resume) => {
          const look = () => {
            if (!enough(bytes)) return
            watchers.delete(look)
            resume(Effect.void)
          }
          watchers.add(look)
          look()
          return Effect.sync(() => watchers.delete(look))
        }),
      cut: resetAll,
      end: Effect.sync(() => {
        for (const { end } of open) end()
      }),
      refuse: (how) =>
        Effect.andThen(
          Effect.sync(() => {
            resetting = how === "reset"
          }),
          how === "closed" ? unlisten : listen
        ),
      halfOpen: (dead, direction) => change(direction, { dead }),
      stall: (stalled, direction) => change(direction, { stalled }),
      delay: (delay, direction) => change(direction, { delay }),
      bandwidth: (bandwidth, direction) => change(direction, { bandwidth }),
      resetAfter: (count, direction) =>
        Effect.sync(() => {
          nextLimit = { ...nextLimit, [direction]: count }
        })
    }
  })
