import { htmlReply, jsonHeaders, jsonReply, refusalBody, Refusal, withManner } from "./envelope.ts"
import type { Delivery, Reply } from "./http.ts"
import type { Value } from "./value.ts"

/** Which requests a fault strikes. Without any of these: all of them. */
export interface Selector {
  /** The method of the request; a batch is `batch`, whatever it holds. */
  readonly method?: string | ReadonlyArray<string>
  /** A batch is a write when one of its commands is. */
  readonly only?: "reads" | "writes"
  /** A piece of the raw body, such as the id of one message. */
  readonly containing?: string
  /** Of those that match so far: every n-th, */
  readonly every?: number
  /** or each with this probability, drawn from a generator with this seed, */
  readonly probability?: number
  readonly seed?: number
  /** and after so many the fault is over. */
  readonly next?: number
}

/** What goes wrong instead of the answer. `executed` says whether the method has run by then; it has not by default. */
type Instead =
  /** The web server speaks instead of PHP: 502, 503, 504... */
  | { readonly kind: "html"; readonly status: number; readonly executed?: boolean }
  | { readonly kind: "empty"; readonly status: number; readonly executed?: boolean }
  /** Any JSON answer; without `body` the portal's own INTERNAL_SERVER_ERROR. */
  | { readonly kind: "answer"; readonly status: number; readonly body?: Value; readonly executed?: boolean }
  | { readonly kind: "notJson"; readonly executed?: boolean }
  | { readonly kind: "redirect"; readonly to: string; readonly executed?: boolean }
  /** The connection is reset, or ended without an answer, or kept open for ever. */
  | { readonly kind: "reset" | "close" | "hang"; readonly executed?: boolean }

/** What happens to the right answer of a method that has run. */
type Spoilt =
  /** The answer ends in its middle (or after so many bytes), by the end of the connection or by a reset. */
  | { readonly kind: "cut"; readonly after?: number; readonly chunked?: boolean; readonly reset?: boolean }
  | { readonly kind: "trickle"; readonly bytes: number; readonly every: number }
  /** The kept-alive connection closes when no request has come for so many milliseconds after the answer. */
  | { readonly kind: "closeIdle"; readonly after: number; readonly reset?: boolean }
  | { readonly kind: "notUtf8" | "gzip" }
  /** A result of so many bytes. */
  | { readonly kind: "huge"; readonly bytes: number }

/** What is only late: the request as a whole, or each of its methods (every command of a batch). */
type Late = { readonly kind: "slow" | "slowMethod"; readonly ms: number }

export type Fault = (Instead | Spoilt | Late) & { readonly when?: Selector }

/** What a selector looks at. */
export interface Struck {
  readonly method: string
  readonly isWrite: () => boolean
  readonly body: Uint8Array
}

// mulberry32: small, and the same draws on every machine for one seed.
const generator = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

class Active {
  readonly fault: Fault
  private readonly when: Selector
  private readonly random: () => number
  private seen = 0
  private struck = 0

  constructor(fault: Fault) {
    this.fault = fault
    this.when = fault.when ?? {}
    this.random = generator(this.when.seed ?? 1)
  }

  get over(): boolean {
    return this.when.next !== undefined && this.struck >= this.when.next
  }

  strikes(call: Struck): boolean {
    const { method, only, containing, every, probability } = this.when
    if (this.over) return false
    if (method !== undefined && (typeof method === "string" ? method !== call.method : !method.includes(call.method))) {
      return false
    }
    if (only !== undefined && (only === "writes") !== call.isWrite()) return false
    if (
      containing !== undefined &&
      !Buffer.from(call.body.buffer, call.body.byteOffset, call.body.length).includes(containing)
    ) {
      return false
    }
    if (every !== undefined && ++this.seen % every !== 0) return false
    if (probability !== undefined && this.random() >= probability) return false
    this.struck++
    return true
  }
}

const none: ReadonlyArray<Fault> = []

/** The faults that are switched on. */
export class Faults {
  private active: ReadonlyArray<Active> = []

  /** Switches a fault on; what comes back switches it off again. */
  add(fault: Fault): () => void {
    const added = new Active(fault)
    this.active = [...this.active, added]
    return () => {
      this.active = this.active.filter((other) => other !== added)
    }
  }

  clear(): void {
    this.active = []
  }

  list(): ReadonlyArray<Fault> {
    return this.active.filter((one) => !one.over).map((one) => one.fault)
  }

  striking(call: Struck): ReadonlyArray<Fault> {
    if (this.active.length === 0) return none
    return this.active.filter((one) => one.strikes(call)).map((one) => one.fault)
  }
}

const titles: Readonly<Record<number, string>> = {
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Temporarily Unavailable",
  504: "Gateway Time-out"
}

const internal = refusalBody(new Refusal(500, "INTERNAL_SERVER_ERROR", "Internal server error"))

/** The delivery that takes the place of the answer, if this fault is of that kind. */
export const insteadOf = (fault: Fault): { readonly delivery: Delivery; readonly executed: boolean } | undefined => {
  const made = (delivery: Delivery) => ({ delivery, executed: "executed" in fault && fault.executed === true })
  switch (fault.kind) {
    case "html":
      return made(htmlReply(fault.status, titles[fault.status] ?? "Error"))
    case "empty":
      return made({ status: fault.status, headers: "Server: nginx\r\n", body: "" })
    case "answer":
      return made(jsonReply(fault.status, fault.body ?? internal))
    case "notJson":
      return made({
        status: 200,
        headers: jsonHeaders,
        body: "<br />\n<b>Fatal error</b>: Allowed memory size exhausted"
      })
    case "redirect":
      return made(htmlReply(302, "Found", `Location: ${fault.to}\r\n`))
    case "reset":
    case "close":
      return made(fault.kind)
    case "hang":
      return made("never")
    default:
      return undefined
  }
}

/** The answer as this fault leaves it. */
export const spoil = (fault: Fault, reply: Reply): Reply => {
  switch (fault.kind) {
    case "cut":
      return withManner(reply, {
        kind: "cut",
        after: fault.after ?? Math.floor(reply.body.length / 2),
        chunked: fault.chunked === true,
        reset: fault.reset === true
      })
    case "trickle":
      return withManner(reply, { kind: "trickle", bytes: fault.bytes, every: fault.every })
    case "closeIdle":
      return withManner(reply, { kind: "closeIdle", after: fault.after, reset: fault.reset === true })
    case "notUtf8":
      return {
        ...reply,
        body: Buffer.concat([Buffer.from('{"result":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')])
      }
    case "gzip":
      return {
        ...reply,
        headers: `${reply.headers}Content-Encoding: gzip\r\n`,
        body: Bun.gzipSync(Buffer.from(reply.body))
      }
    case "huge": {
      const body = Buffer.alloc(Math.max(fault.bytes, 13), "x")
      body.write('{"result":"')
      body.write('"}', body.length - 2)
      return { ...reply, body }
    }
    default:
      return reply
  }
}
