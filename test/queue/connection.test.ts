import { expect, test } from "bun:test"
import type { ChannelModel } from "amqplib"
import fc from "fast-check"
import { EventEmitter, once } from "node:events"
import { connect, createServer, type Socket } from "node:net"
import { setImmediate } from "node:timers/promises"
import { heard } from "../../src/queue/connection.ts"

/** A socket under a connection, and what comes out at its other end. */
const dialled = async () => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  const accepted = once(server, "connection")
  const socket = connect(typeof address === "object" && address !== null ? address.port : 0, "127.0.0.1")
  await once(socket, "connect")
  const [other] = (await accepted) as [Socket]
  const parts: Array<Buffer> = []
  other.on("data", (part: Buffer) => parts.push(part))
  let writes = 0
  const { _write } = socket
  socket._write = (...args) => {
    writes++
    _write.apply(socket, args)
  }
  heard(Object.assign(new EventEmitter(), { connection: { stream: socket } }) as unknown as ChannelModel)
  const end = async () => {
    socket.end()
    await once(other, "close")
    server.close()
    return Buffer.concat(parts)
  }
  return { socket, end, writes: () => writes }
}

const frame = fc.uint8Array({ minLength: 1, maxLength: 2_000 })

test("frames leave whole and in order, those of one turn in one write", () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(frame, { minLength: 1, maxLength: 8 }), { maxLength: 6 }),
      fc.boolean(),
      async (turns, endsAtOnce) => {
        const { socket, end, writes } = await dialled()
        for (const [index, frames] of turns.entries()) {
          for (const one of frames) socket.write(one)
          if (!endsAtOnce || index < turns.length - 1) await setImmediate()
        }
        expect(await end()).toEqual(Buffer.concat(turns.flat()))
        expect(writes()).toBeLessThanOrEqual(turns.length)
      }
    ),
    { numRuns: 50 }
  ))
