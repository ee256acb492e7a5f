import type { Socket, TCPSocketListener } from "bun"

/** One request as it came over the wire. */
export interface WireRequest {
  readonly verb: string
  /** Path and query, not decoded. */
  readonly target: string
  /** By name in lower case; a header sent twice is joined with a comma. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: Uint8Array
  readonly remoteAddress: string
  /** The connection it came by. */
  readonly peer: {
    /** Runs something once the connection is gone, or at once where it is. */
    readonly whenGone: (run: () => void) => void
  }
}

/** How an answer is written, where it is not simply written. */
export type Manner =
  | { readonly kind: "cut"; readonly after: number; readonly chunked: boolean; readonly reset: boolean }
  | { readonly kind: "trickle"; readonly bytes: number; readonly every: number }
  | { readonly kind: "closeIdle"; readonly after: number; readonly reset: boolean }

export interface Reply {
  readonly status: number
  /** Whole lines, each ended by CR LF. */
  readonly headers: string
  /** A string is ASCII: the portal's JSON always is. */
  readonly body: string | Uint8Array
  readonly manner?: Manner
}

/** What comes back for a request: an answer, or one of the ways in which none comes. */
export type Delivery = Reply | "reset" | "close" | "never"

export type Answerer = (request: WireRequest) => Delivery | Promise<Delivery>

const reasons: Readonly<Record<number, string>> = {
  200: "OK",
  302: "Found",
  400: "Bad Request",
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  413: "Request Entity Too Large",
  414: "Request-URI Too Large",
  422: "Unprocessable Entity",
  429: "Too Many Requests",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Temporarily Unavailable",
  504: "Gateway Time-out"
}

const blank = "\r\n\r\n"
// nginx allows four buffers of 8 KB for the head of a request.
const longestHead = 32 * 1024

interface Head {
  readonly verb: string
  readonly target: string
  readonly headers: Map<string, string>
  readonly keepAlive: boolean
  readonly length: number
  readonly chunked: boolean
}

const readHead = (text: string): Head | undefined => {
  const lines = text.split("\r\n")
  const [verb, target, version] = (lines[0] ?? "").split(" ")
  if (verb === undefined || target === undefined || version === undefined || !version.startsWith("HTTP/1.")) {
    return undefined
  }
  const headers = new Map<string, string>()
  for (let line = 1; line < lines.length; line++) {
    const text = lines[line] ?? ""
    const colon = text.indexOf(":")
    if (colon <= 0) return undefined
    const name = text.slice(0, colon).toLowerCase()
    const value = text.slice(colon + 1).trim()
    const earlier = headers.get(name)
    headers.set(name, earlier === undefined ? value : `${earlier}, ${value}`)
  }
  const connection = headers.get("connection")?.toLowerCase()
  const length = headers.get("content-length") ?? "0"
  if (!/^\d+$/.test(length)) return undefined
  return {
    verb,
    target,
    headers,
    keepAlive: version === "HTTP/1.1" ? connection !== "close" : connection === "keep-alive",
    length: Number(length),
    chunked: headers.get("transfer-encoding")?.toLowerCase() === "chunked"
  }
}

/** The body out of its chunks: `undefined` while it is not complete, `null` where the framing is broken. */
const readChunks = (bytes: Buffer): { readonly body: Uint8Array; readonly used: number } | undefined | null => {
  const parts: Array<Uint8Array> = []
  for (let at = 0; ;) {
    const line = bytes.indexOf("\r\n", at)
    if (line < 0) return undefined
    const size = Number.parseInt(bytes.toString("latin1", at, line), 16)
    if (!Number.isInteger(size) || size < 0) return null
    const start = line + 2
    if (size === 0) {
      const trailer = bytes.indexOf("\r\n", start)
      return trailer < 0 ? undefined : { body: Buffer.concat(parts), used: trailer + 2 }
    }
    if (bytes.length < start + size + 2) return undefined
    parts.push(bytes.subarray(start, start + size))
    at = start + size + 2
  }
}

const nothing = new Uint8Array(0)

/** One client's connection: HTTP/1.1 with keep-alive and pipelining, one request answered at a time. */
class Connection {
  private arrived: Buffer = Buffer.alloc(0)
  private head: Head | undefined
  private busy = false
  private unsent: Uint8Array = nothing
  private onFlushed: (() => void) | undefined
  private served = 0
  private readonly mourners: Array<() => void> = []
  closed = false
  readonly socket: Socket<Connection | undefined>
  private readonly answer: Answerer
  private readonly longestBody: number
  private readonly timers = new Set<ReturnType<typeof setTimeout>>()

  constructor(socket: Socket<Connection | undefined>, answer: Answerer, longestBody: number) {
    this.socket = socket
    this.answer = answer
    this.longestBody = longestBody
  }

  take(bytes: Buffer): void {
    // The bytes of a callback are only lent: what is kept beyond it is copied.
    this.arrived = this.arrived.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.arrived, bytes])
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
    const unsent = this.unsent
    this.unsent = nothing
    this.write(unsent)
  }

  private later(run: () => void, ms: number): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer)
      if (!this.closed) run()
    }, ms)
    this.timers.add(timer)
  }

  private write(data: string | Uint8Array): void {
    if (this.closed) return
    if (this.unsent.length > 0) {
      this.unsent = Buffer.concat([this.unsent, typeof data === "string" ? Buffer.from(data, "latin1") : data])
      return
    }
    const sent = this.socket.write(data)
    if (sent < data.length) {
      const bytes = typeof data === "string" ? Buffer.from(data, "latin1") : data
      this.unsent = bytes.subarray(Math.max(0, sent))
    } else if (this.onFlushed !== undefined) {
      const run = this.onFlushed
      this.onFlushed = undefined
      run()
    }
  }

  private flushed(run: () => void): void {
    if (this.unsent.length === 0) run()
    else this.onFlushed = run
  }

  reset(): void {
    if (!this.closed) this.socket.terminate()
  }

  end(): void {
    if (!this.closed) this.flushed(() => this.socket.end())
  }

  private refuse(status: number): void {
    this.busy = true
    this.write(`HTTP/1.1 ${status} ${reasons[status]}\r\nContent-Length: 0\r\nConnection: close${blank}`)
    this.end()
  }

  private serve(): void {
    while (!this.busy && !this.closed) {
      const request = this.next()
      if (request === undefined) return
      this.busy = true
      this.served++
      const keepAlive = this.head?.keepAlive === true
      const headless = request.verb === "HEAD"
      this.head = undefined
      const delivery = this.answer(request)
      if (delivery instanceof Promise) void delivery.then((late) => this.deliver(late, keepAlive, headless))
      else this.deliver(delivery, keepAlive, headless)
    }
  }

  private next(): WireRequest | undefined {
    if (this.head === undefined && !this.readHead()) return undefined
    const head = this.head
    if (head === undefined) return undefined
    let body: Uint8Array = nothing
    if (head.chunked) {
      const chunks = readChunks(this.arrived)
      if (chunks === undefined) return undefined
      if (chunks === null) return void this.refuse(400)
      body = chunks.body
      this.arrived = this.arrived.subarray(chunks.used)
    } else if (head.length > 0) {
      if (this.arrived.length < head.length) return undefined
      body = this.arrived.subarray(0, head.length)
      this.arrived = this.arrived.subarray(head.length)
    }
    return {
      verb: head.verb,
      target: head.target,
      headers: head.headers,
      body,
      remoteAddress: this.socket.remoteAddress,
      peer: this
    }
  }

  private readHead(): boolean {
    const end = this.arrived.indexOf(blank)
    if (end < 0) {
      if (this.arrived.length > longestHead) this.refuse(414)
      return false
    }
    if (end > longestHead) return (this.refuse(414), false)
    const head = readHead(this.arrived.toString("latin1", 0, end))
    if (head === undefined) return (this.refuse(400), false)
    if (head.length > this.longestBody) return (this.refuse(413), false)
    this.arrived = this.arrived.subarray(end + 4)
    this.head = head
    if (head.headers.get("expect")?.toLowerCase() === "100-continue") this.write(`HTTP/1.1 100 Continue${blank}`)
    return true
  }

  private deliver(delivery: Delivery, keepAlive: boolean, headless: boolean): void {
    if (this.closed || delivery === "never") return
    if (delivery === "reset") return this.reset()
    if (delivery === "close") return this.end()
    const { status, headers, body, manner } = delivery
    const chunked = manner?.kind === "cut" && manner.chunked
    const framing = chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${body.length}`
    const connection = keepAlive ? "keep-alive" : "close"
    const head = `HTTP/1.1 ${status} ${reasons[status] ?? "Unknown"}\r\n${headers}${framing}\r\nConnection: ${connection}${blank}`
    if (manner?.kind === "cut") return this.cut(head, body, manner)
    if (manner?.kind === "trickle") return this.trickle(head, body, manner, keepAlive)
    if (headless) this.write(head)
    else if (typeof body === "string") this.write(head + body)
    else {
      this.write(head)
      this.write(body)
    }
    if (manner?.kind === "closeIdle") {
      const served = this.served
      this.later(() => {
        if (this.served !== served) return
        if (manner.reset) this.reset()
        else this.end()
      }, manner.after)
    }
    this.answered(keepAlive)
  }

  private answered(keepAlive: boolean): void {
    if (!keepAlive) return this.end()
    this.busy = false
    if (this.arrived.length > 0) this.serve()
  }

  private cut(head: string, body: string | Uint8Array, manner: Manner & { readonly kind: "cut" }): void {
    const part = body.slice(0, Math.max(0, Math.min(manner.after, body.length - 1)))
    this.write(head)
    if (manner.chunked && part.length > 0) this.write(`${part.length.toString(16)}\r\n`)
    if (part.length > 0) this.write(part)
    if (manner.chunked && part.length > 0) this.write("\r\n")
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
  const socket = {
    open: (opened: Socket<Connection | undefined>) => {
      const connection = new Connection(opened, answer, options.longestBody)
      opened.data = connection
      connections.add(connection)
    },
    data: (from: Socket<Connection | undefined>, bytes: Buffer) => from.data?.take(bytes),
    drain: (to: Socket<Connection | undefined>) => to.data?.drained(),
    close: (gone: Socket<Connection | undefined>) => {
      if (gone.data === undefined) return
      gone.data.lost()
      connections.delete(gone.data)
    },
    error: () => undefined
  }
  const listener: TCPSocketListener<Connection | undefined> = Bun.listen<Connection | undefined>({
    hostname: options.hostname,
    port: options.port,
    data: undefined,
    socket,
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
