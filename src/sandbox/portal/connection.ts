import type { Socket } from "bun"
import {
  readChunks,
  readHead,
  reasonOf,
  type Answerer,
  type Delivery,
  type Head,
  type Manner,
  type WireRequest
} from "./http.ts"

export type PortalSocket = Socket<Connection | undefined>

const blank = "\r\n\r\n"
// nginx allows four buffers of 8 KB for the head of a request.
const longestHead = 32 * 1024
const nothing = Buffer.alloc(0)
const lineFeed = 0x0a

let second = 0
let date = ""

const dateNow = (): string => {
  const now = Math.floor(Date.now() / 1000)
  if (now !== second) {
    second = now
    date = new Date(now * 1000).toUTCString()
  }
  return date
}

// A mistake in the sandbox, or in a function that a test gave it: Bun would swallow it and the client wait for ever.
const failed = (error: unknown): Delivery => ({
  status: 500,
  headers: "Content-Type: text/plain; charset=utf-8\r\n",
  body: Buffer.from(`the simulated portal failed: ${error instanceof Error ? error.stack : String(error)}`)
})

/** What has arrived and was not used yet. Bytes are put together only when somebody looks. */
class Arrived {
  private parts: Array<Buffer> = []
  length = 0

  push(bytes: Buffer): void {
    // The bytes of a callback are only lent.
    this.parts.push(Buffer.from(bytes))
    this.length += bytes.length
  }

  get bytes(): Buffer {
    if (this.parts.length > 1) this.parts = [Buffer.concat(this.parts)]
    return this.parts[0] ?? nothing
  }

  get endsALine(): boolean {
    return this.parts.at(-1)?.at(-1) === lineFeed
  }

  use(count: number): Buffer {
    const { bytes } = this
    this.parts = bytes.length > count ? [bytes.subarray(count)] : []
    this.length -= count
    return bytes.subarray(0, count)
  }
}

/** One client's connection: HTTP/1.1 with keep-alive and pipelining, one request answered at a time. */
export class Connection {
  private readonly arrived = new Arrived()
  private head: Head | undefined
  private busy = false
  private unsent: Uint8Array = nothing
  private onFlushed: (() => void) | undefined
  private served = 0
  private closed = false
  private readonly mourners: Array<() => void> = []
  private readonly timers = new Set<ReturnType<typeof setTimeout>>()
  private readonly socket: PortalSocket
  private readonly answer: Answerer
  private readonly longestBody: number

  constructor(socket: PortalSocket, answer: Answerer, longestBody: number) {
    this.socket = socket
    this.answer = answer
    this.longestBody = longestBody
  }

  take(bytes: Buffer): void {
    this.arrived.push(bytes)
    this.serve()
  }

  lost(): void {
    this.closed = true
    this.unsent = nothing
    for (const timer of this.timers) clearTimeout(timer)
    this.timers.clear()
    for (const run of this.mourners.splice(0)) run()
  }

  whenGone(run: () => void): void {
    if (this.closed) run()
    else this.mourners.push(run)
  }

  drained(): void {
    const { unsent } = this
    this.unsent = nothing
    if (unsent.length > 0) this.write(unsent)
  }

  reset(): void {
    if (!this.closed) this.socket.terminate()
  }

  private end(): void {
    if (!this.closed) this.flushed(() => this.socket.end())
  }

  private later(run: () => void, ms: number): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer)
      run()
    }, ms)
    this.timers.add(timer)
  }

  private write(data: string | Uint8Array): void {
    if (this.closed) return
    if (this.unsent.length > 0) {
      this.unsent = Buffer.concat([this.unsent, typeof data === "string" ? Buffer.from(data, "latin1") : data])
      return
    }
    const sent = Math.max(0, this.socket.write(data))
    if (sent < data.length) {
      this.unsent = typeof data === "string" ? Buffer.from(data.slice(sent), "latin1") : data.subarray(sent)
      return
    }
    const run = this.onFlushed
    this.onFlushed = undefined
    run?.()
  }

  private flushed(run: () => void): void {
    if (this.unsent.length === 0) run()
    else this.onFlushed = run
  }

  private refuse(status: number): undefined {
    this.busy = true
    this.write(`HTTP/1.1 ${status} ${reasonOf(status)}\r\nContent-Length: 0\r\nConnection: close${blank}`)
    this.end()
  }

  private serve(): void {
    while (!this.busy && !this.closed) {
      if (this.head === undefined) this.head = this.nextHead()
      const { head } = this
      if (head === undefined) return
      const body = this.nextBody(head)
      if (body === undefined) return
      this.head = undefined
      this.busy = true
      this.served++
      this.begin(head, body)
    }
  }

  private begin(head: Head, body: Uint8Array): void {
    const fail = (error: unknown): void => this.deliver(failed(error), head)
    try {
      const delivery = this.answer(this.request(head, body))
      if (delivery instanceof Promise) void delivery.then((late) => this.deliver(late, head)).catch(fail)
      else this.deliver(delivery, head)
    } catch (error) {
      fail(error)
    }
  }

  private request(head: Head, body: Uint8Array): WireRequest {
    return {
      verb: head.verb,
      target: head.target,
      headers: head.headers,
      body,
      remoteAddress: this.socket.remoteAddress,
      peer: this
    }
  }

  private nextHead(): Head | undefined {
    if (this.arrived.length === 0) return undefined
    const end = this.arrived.bytes.indexOf(blank)
    if (end > longestHead || (end < 0 && this.arrived.length > longestHead)) return this.refuse(414)
    if (end < 0) return undefined
    const head = readHead(this.arrived.use(end + blank.length).toString("latin1", 0, end))
    if (head === undefined) return this.refuse(400)
    if (head.length > this.longestBody) return this.refuse(413)
    if (head.headers.get("expect")?.toLowerCase() === "100-continue") this.write(`HTTP/1.1 100 Continue${blank}`)
    return head
  }

  private nextBody(head: Head): Uint8Array | undefined {
    if (!head.chunked) return this.arrived.length < head.length ? undefined : this.arrived.use(head.length)
    if (this.arrived.length > this.longestBody) return this.refuse(413)
    // The last chunk ends a line, so nothing is put together before one does.
    if (!this.arrived.endsALine) return undefined
    const chunks = readChunks(this.arrived.bytes)
    if (chunks === null) return this.refuse(400)
    if (chunks !== undefined) this.arrived.use(chunks.used)
    return chunks?.body
  }

  private deliver(delivery: Delivery, { keepAlive, verb }: Head): void {
    if (this.closed || delivery === "never") return
    if (delivery === "reset") return this.reset()
    if (delivery === "close") return this.end()
    const { status, headers, body, manner } = delivery
    const chunked = manner?.kind === "cut" && manner.chunked
    const framing = chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${body.length}`
    const connection = keepAlive ? "keep-alive" : "close"
    const head = `HTTP/1.1 ${status} ${reasonOf(status)}\r\nDate: ${dateNow()}\r\n${headers}${framing}\r\nConnection: ${connection}${blank}`
    if (manner?.kind === "cut") return this.cut(head, body, manner)
    if (manner?.kind === "trickle") return this.trickle(head, body, manner, keepAlive)
    if (verb === "HEAD") this.write(head)
    else if (typeof body === "string") this.write(head + body)
    else {
      this.write(head)
      this.write(body)
    }
    if (manner?.kind === "closeIdle") this.closeIfIdle(manner)
    this.answered(keepAlive)
  }

  private answered(keepAlive: boolean): void {
    if (!keepAlive) return this.end()
    this.busy = false
    if (this.arrived.length > 0) this.serve()
  }

  private closeIfIdle(manner: Manner & { readonly kind: "closeIdle" }): void {
    const { served } = this
    this.later(() => {
      if (this.served !== served) return
      if (manner.reset) this.reset()
      else this.end()
    }, manner.after)
  }

  private cut(head: string, body: string | Uint8Array, manner: Manner & { readonly kind: "cut" }): void {
    const part = body.slice(0, Math.max(0, Math.min(manner.after, body.length - 1)))
    this.write(head)
    if (part.length > 0) {
      if (manner.chunked) this.write(`${part.length.toString(16)}\r\n`)
      this.write(part)
      if (manner.chunked) this.write("\r\n")
    }
    // A reset overtakes what the peer has not read yet, so it leaves a moment later.
    if (manner.reset) this.flushed(() => this.later(() => this.reset(), 10))
    else this.end()
  }

  private trickle(
    head: string,
    body: string | Uint8Array,
    manner: Manner & { readonly kind: "trickle" },
    keepAlive: boolean
  ): void {
    this.write(head)
    let at = 0
    const step = (): void => {
      this.write(body.slice(at, at + manner.bytes))
      at += manner.bytes
      if (at < body.length) this.later(step, manner.every)
      else this.answered(keepAlive)
    }
    this.later(step, manner.every)
  }
}
