import { createServer } from "node:net"
import { Effect } from "effect"
import { RigFailed } from "./until.ts"

// Below the range from which the kernel takes the ports of outgoing connections (32768 on). In it, a client that keeps
// dialling a broker which is down will sooner or later be given that very port, connect to itself and keep the broker
// from coming back.
const first = 12_000
const last = 32_000
const taken = new Set<number>()

const isFree = (port: number) =>
  new Promise<boolean>((done) => {
    const probe = createServer()
    probe.once("error", () => done(false))
    probe.listen({ port, host: "127.0.0.1", exclusive: true }, () => probe.close(() => done(true)))
  })

/** A port of the loopback interface on which nobody listens; never the same twice in one process. */
export const freePort = Effect.tryPromise({
  try: async () => {
    for (let tries = 0; tries < 1_000; tries++) {
      const port = first + Math.floor(Math.random() * (last - first))
      if (taken.has(port)) continue
      taken.add(port)
      if (await isFree(port)) return port
    }
    throw new Error("a thousand ports tried")
  },
  catch: (cause) => new RigFailed({ what: "no free port", cause })
})
