import { type Socket, connect, createServer } from "node:net"
import { expect } from "bun:test"
import { Effect } from "effect"
import { live } from "../effect.ts"
import { freePort } from "./ports.ts"
import { startProxy } from "./proxy.ts"
import { RigFailed, until } from "./until.ts"

/** A server that sends back what it gets. */
const echo = Effect.gen(function* () {
  const port = yield* freePort
  const sockets = new Set<Socket>()
  const ends = { reset: 0, end: 0 }
  yield* Effect.acquireRelease(
    Effect.promise(
      () =>
        new Promise<ReturnType<typeof createServer>>((done) => {
          const server = createServer((socket) => {
            sockets.add(socket)
            socket.on("error", (error: NodeJS.ErrnoException) => error.code === "ECONNRESET" && ends.reset++)
            socket.on("end", () => ends.end++)
            socket.on("data", (bytes) => socket.write(bytes))
          }).listen(port, "127.0.0.1", () => done(server))
        })
    ),
    (server) =>
      Effect.sync(() => {
        server.close()
        for (const socket of sockets) socket.destroy()
      })
  )
  return { url: `tcp://127.0.0.1:${port}`, ends }
})

/** A client that notes what happens to it. */
const dial = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(
      () =>
        new Promise<{ socket: Socket; got: () => string; error: () => string | undefined; ended: () => boolean }>(
          (done) => {
            const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true })
            let got = ""
            let error: string | undefined
            let ended = false
            const self = { socket, got: () => got, error: () => error, ended: () => ended }
            socket.on("data", (bytes) => (got += String(bytes)))
            socket.on("end", () => (ended = true))
            socket.on("error", (failure: NodeJS.ErrnoException) => {
              error = failure.code
              done(self)
            })
            socket.on("connect", () => done(self))
          }
        )
    ),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

const is = (what: string, look: () => boolean) => until(what, Effect.sync(look), { within: "5 seconds" })

live("a proxy passes bytes and counts them, and ends what ended", () =>
  Effect.gen(function* () {
    const server = yield* echo
    const proxy = yield* startProxy(server.url)
    const client = yield* dial(proxy.port)
    client.socket.write("hello")
    yield* is("the echo", () => client.got() === "hello")
    expect(proxy.bytes()).toEqual({ up: 5, down: 5 })
    client.socket.end()
    yield* is("the end", () => client.ended() && server.ends.end === 1)
    yield* is("nothing open", () => proxy.connections().open === 0)
    expect(proxy.connections().total).toBe(1)
  })
)

live("a cut is a real reset, on both sides", () =>
  Effect.gen(function* () {
    const server = yield* echo
    const proxy = yield* startProxy(server.url)
    const client = yield* dial(proxy.port)
    client.socket.write("hello")
    yield* is("the echo", () => client.got() === "hello")
    yield* proxy.cut
    yield* is("the reset", () => client.error() === "ECONNRESET" && server.ends.reset === 1)
    expect(client.ended()).toBe(false)
  })
)

live("a proxy refuses, and then listens on the same port again", () =>
  Effect.gen(function* () {
    const server = yield* echo
    const proxy = yield* startProxy(server.url)
    const before = yield* dial(proxy.port)
    yield* proxy.refuse("closed")
    expect((yield* dial(proxy.port)).error()).toBe("ECONNREFUSED")
    before.socket.write("still here")
    yield* is("the echo on the open connection", () => before.got() === "still here")
    yield* proxy.refuse("reset")
    const reset = yield* dial(proxy.port)
    yield* is("the reset", () => reset.error() === "ECONNRESET")
    yield* proxy.refuse(false)
    const after = yield* dial(proxy.port)
    after.socket.write("back")
    yield* is("the echo", () => after.got() === "back")
  })
)

live("a half-open line holds what is sent, says nothing, and may lose it", () =>
  Effect.gen(function* () {
    const server = yield* echo
    const proxy = yield* startProxy(server.url)
    const client = yield* dial(proxy.port)
    yield* proxy.halfOpen("hold", "down")
    client.socket.write("one")
    yield* is("the proxy has it from the server", () => proxy.bytes().down === 3)
    expect([client.got(), client.error(), client.ended()]).toEqual(["", undefined, false])
    yield* proxy.halfOpen(false)
    yield* is("it passes afterwards", () => client.got() === "one")
    yield* proxy.halfOpen("drop", "up")
    client.socket.write("two")
    yield* is("the proxy has it from the client", () => proxy.bytes().up === 6)
    yield* proxy.halfOpen(false)
    client.socket.write("three")
    yield* is("only the later one comes", () => client.got() === "onethree")
    // Neither end nor reset passes a dead line.
    yield* proxy.halfOpen("hold")
    client.socket.resetAndDestroy()
    const other = yield* dial(proxy.port)
    yield* is("a new connection is accepted", () => proxy.connections().total === 2)
    other.socket.write("anybody?")
    yield* is("and read", () => proxy.bytes().up === 6 + 5 + 8)
    expect([other.got(), server.ends.reset, server.ends.end]).toEqual(["", 0, 0])
  })
)

live("a connection is reset after so many bytes, the next one is not", () =>
  Effect.gen(function* () {
    const server = yield* echo
    const proxy = yield* startProxy(server.url)
    yield* proxy.resetAfter(4, "down")
    const first = yield* dial(proxy.port)
    first.socket.write("hello")
    yield* is("the reset", () => first.error() === "ECONNRESET")
    expect(first.got()).toBe("hell")
    const second = yield* dial(proxy.port)
    second.socket.write("hello")
    yield* is("the echo", () => second.got() === "hello")
  })
)

live("delay, bandwidth and a stalled side slow the bytes down and keep their order", () =>
  Effect.gen(function* () {
    const server = yield* echo
    const proxy = yield* startProxy(server.url)
    const client = yield* dial(proxy.port)
    const took = (bytes: string) =>
      Effect.gen(function* () {
        const began = performance.now()
        const expected = client.got() + bytes
        client.socket.write(bytes)
        yield* is("the echo", () => client.got() === expected)
        return performance.now() - began
      })
    yield* took("warm")
    yield* proxy.delay(150, "up")
    expect(yield* took("late")).toBeGreaterThan(140)
    yield* proxy.delay(0)
    yield* proxy.bandwidth(1_000, "down")
    expect(yield* took("0123456789".repeat(20))).toBeGreaterThan(150)
    yield* proxy.bandwidth(undefined)
    yield* proxy.stall(true, "up")
    const size = 32 * 1024 * 1024
    const before = proxy.bytes().up
    client.socket.write(Buffer.alloc(size, "x"))
    yield* is("the client's writes pile up", () => client.socket.writableLength > size / 2)
    expect(proxy.bytes().up - before).toBeLessThan(1024 * 1024)
    yield* proxy.stall(false)
    yield* is("all of it passes", () => proxy.bytes().up - before === size)
  })
)

live("what does not come about fails with its name", () =>
  Effect.gen(function* () {
    const failed = yield* Effect.flip(until("pigs fly", Effect.succeed(false), { within: "50 millis" }))
    expect(failed).toBeInstanceOf(RigFailed)
    expect(failed.message).toBe("not within 50ms: pigs fly")
    const hung = yield* Effect.flip(until("an answer", Effect.never, { within: "50 millis" }))
    expect(hung.message).toBe("not within 50ms: an answer")
  })
)
