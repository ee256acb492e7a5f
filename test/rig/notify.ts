import { dlopen } from "bun:ffi"
import { Effect, type Scope } from "effect"
import { join } from "node:path"
import { temporaryFolder } from "./child.ts"
import { RigFailed } from "./until.ts"

// Bun speaks no unix datagrams.
const { symbols: libc } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "buffer", "u32"], returns: "i32" },
  recv: { args: ["i32", "buffer", "u64", "i32"], returns: "i64" },
  close: { args: ["i32"], returns: "i32" }
})

const AF_UNIX = 1
const SOCK_DGRAM = 2
const MSG_DONTWAIT = 64

export interface Notified {
  /** For the environment of whoever notifies. */
  readonly NOTIFY_SOCKET: string
  /** The last value of a variable such as STATUS; undefined before one came. */
  readonly last: (name: string) => string | undefined
}

/** Listens where systemd would: what `sd_notify` sends is heard when it is asked for. */
export const startNotified: Effect.Effect<Notified, RigFailed, Scope.Scope> = Effect.gen(function* () {
  const path = join(yield* temporaryFolder("notify"), "socket")
  const address = Buffer.alloc(110)
  address.writeUInt16LE(AF_UNIX)
  address.write(path, 2)
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => libc.socket(AF_UNIX, SOCK_DGRAM, 0)),
    (socket) => Effect.sync(() => libc.close(socket))
  )
  if (libc.bind(socket, address, 2 + path.length + 1) !== 0)
    return yield* new RigFailed({ what: `cannot listen on ${path}` })
  const values = new Map<string, string>()
  const buffer = Buffer.alloc(65_536)
  const listen = () => {
    for (;;) {
      const length = Number(libc.recv(socket, buffer, buffer.length, MSG_DONTWAIT))
      if (length <= 0) return
      for (const line of buffer.toString("utf8", 0, length).split("\n")) {
        const at = line.indexOf("=")
        if (at > 0) values.set(line.slice(0, at), line.slice(at + 1).replace(/\0$/, ""))
      }
    }
  }
  return {
    NOTIFY_SOCKET: path,
    last: (name) => {
      listen()
      return values.get(name)
    }
  }
})
