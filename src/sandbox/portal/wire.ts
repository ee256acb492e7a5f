import type { TCPSocketListener } from "bun"
import { Connection, type PortalSocket } from "./connection.ts"
import type { Answerer } from "./http.ts"

export interface ListenOptions {
  readonly hostname: string
  readonly port: number
  readonly tls?: { readonly cert: string; readonly key: string }
  readonly longestBody: number
}

export interface Listener {
  readonly port: number
  /** Closes the door and resets every connection. */
  readonly close: () => void
}

/**
 * HTTP/1.1 on a bare socket. `Bun.serve` has no way to reset a connection or to stop in the middle of a body, which is
 * half of what a portal in trouble does; this is also the faster of the two.
 */
export const listen = (options: ListenOptions, answer: Answerer): Listener => {
  const connections = new Set<Connection>()
  const listener: TCPSocketListener<Connection | undefined> = Bun.listen<Connection | undefined>({
    hostname: options.hostname,
    port: options.port,
    data: undefined,
    socket: {
      open: (socket: PortalSocket) => {
        const connection = new Connection(socket, answer, options.longestBody)
        socket.data = connection
        connections.add(connection)
      },
      data: (socket: PortalSocket, bytes: Buffer) => socket.data?.take(bytes),
      drain: (socket: PortalSocket) => socket.data?.drained(),
      close: (socket: PortalSocket) => {
        if (socket.data === undefined) return
        connections.delete(socket.data)
        socket.data.lost()
      },
      error: () => undefined
    },
    ...(options.tls === undefined ? {} : { tls: options.tls })
  })
  return {
    port: listener.port,
    close: () => {
      listener.stop()
      for (const connection of connections) connection.reset()
    }
  }
}
