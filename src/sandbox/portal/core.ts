import { methodsIn, runBatch, type Performed } from "./batch.ts"
import { Credentials, type Credential } from "./credentials.ts"
import { Crm } from "./crm.ts"
import {
  envelope,
  htmlReply,
  isErrorInside,
  Page,
  Refusal,
  refusalBody,
  type Outcome,
  type Timing
} from "./envelope.ts"
import { errorCode, Executions, type KeyRule } from "./executions.ts"
import { Faults, insteadOf, spoil, type Fault } from "./faults.ts"
import { addressOf, askedOf, withoutStart, type Address, type Asked } from "./inbound.ts"
import type { Call, Method } from "./method.ts"
import { classicMethods } from "./methodsClassic.ts"
import { itemMethods } from "./methodsItem.ts"
import { officeMethods } from "./methodsOffice.ts"
import { customMethods, portalMethods } from "./methodsPortal.ts"
import type { Value } from "./value.ts"
import type { Delivery, Reply, WireRequest } from "./wire.ts"
import { encodeXml } from "./xml.ts"

/** Milliseconds that a method takes: for all, or by name with `*` for the others. */
export type Latency = number | Readonly<Record<string, number>>

export interface CoreOptions {
  readonly keep: number
  readonly smartProcesses: ReadonlyArray<number>
  readonly key?: KeyRule
  readonly latency?: Latency
}

/** What all methods of one request share. */
interface Context {
  readonly request: WireRequest
  readonly credential: Credential | undefined
  /** Milliseconds that a fault adds to every method. */
  readonly slower: number
}

/** Milliseconds since 1970 with a fraction: the time block shows microseconds. */
const now = (): number => performance.timeOrigin + performance.now()

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))

const methodNotFound = new Refusal(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")

const seconds = (ms: number): number => Math.round(ms * 1000) / 1_000_000

/** The portal behind its door: from a request to what is delivered for it. */
export class Core {
  readonly credentials = new Credentials()
  readonly faults = new Faults()
  readonly executions: Executions
  readonly crm: Crm
  readonly refusals = new Map<string, number>()
  requests = 0
  inFlight = 0
  maxInFlight = 0
  private latency: Latency
  private readonly methods = new Map<string, Method>()
  private watchers: Array<() => void> = []
  private readonly options: CoreOptions

  constructor(options: CoreOptions) {
    this.options = options
    this.executions = new Executions(options.keep, options.key)
    this.crm = new Crm(options.keep, options.smartProcesses)
    this.latency = options.latency ?? 0
    this.defineAll()
  }

  private defineAll(): void {
    this.methods.clear()
    const known = portalMethods(() => this.methods.keys())
    for (const set of [classicMethods, itemMethods, officeMethods, known, customMethods]) {
      for (const [name, method] of Object.entries(set)) this.methods.set(name, method)
    }
  }

  define(name: string, method: Method): void {
    this.methods.set(name, method)
  }

  setLatency(latency: Latency): void {
    this.latency = latency
  }

  /** Forgets everything that has happened and been set; connections stay. */
  reset(): void {
    this.credentials.clear()
    this.faults.clear()
    this.executions.clear()
    this.crm.clear()
    this.refusals.clear()
    this.requests = 0
    this.maxInFlight = this.inFlight
    this.latency = this.options.latency ?? 0
    this.defineAll()
  }

  /** Calls back with every change until it says that it has seen enough. */
  watch(enough: () => boolean): () => void {
    const look = (): void => {
      if (enough()) stop()
    }
    const stop = (): void => {
      this.watchers = this.watchers.filter((other) => other !== look)
    }
    this.watchers.push(look)
    look()
    return stop
  }

  private changed(): void {
    for (const look of this.watchers) look()
  }

  /** What is delivered for a request. */
  answer(request: WireRequest): Delivery | Promise<Delivery> {
    const address = addressOf(request.target)
    if (address === undefined) return htmlReply(404, "Not Found")
    this.requests++
    if (++this.inFlight > this.maxInFlight) this.maxInFlight = this.inFlight
    this.changed()
    const striking = this.faults.striking({
      method: address.method.toLowerCase(),
      isWrite: () => this.isWrite(address, request),
      body: request.body
    })
    const delivery = striking.length === 0 ? this.respond(address, request, 0) : this.struck(striking, address, request)
    if (!(delivery instanceof Promise)) return this.left(delivery, request)
    return delivery.then((late) => this.left(late, request))
  }

  private left(delivery: Delivery, request: WireRequest): Delivery {
    const leave = (): void => {
      this.inFlight--
      this.changed()
    }
    // A call that hangs is in flight for as long as its caller waits.
    if (delivery === "never") request.peer.whenGone(leave)
    else leave()
    return delivery
  }

  private async struck(faults: ReadonlyArray<Fault>, address: Address, request: WireRequest): Promise<Delivery> {
    let slower = 0
    for (const fault of faults) {
      if (fault.kind === "slow") await sleep(fault.ms)
      if (fault.kind === "slowMethod") slower += fault.ms
    }
    const instead = faults.map(insteadOf).find((one) => one !== undefined)
    if (instead?.executed === false) return instead.delivery
    const reply = await this.respond(address, request, slower)
    if (instead !== undefined) return instead.delivery
    return faults.reduce((spoilt, fault) => spoil(fault, spoilt), reply)
  }

  private isWrite(address: Address, request: WireRequest): boolean {
    if (address.method.toLowerCase() !== "batch") return this.find(address.method)?.write ?? true
    return methodsIn(askedOf(request, address.query).params).some((name) => this.find(name)?.write ?? true)
  }

  /** Method names are folded to lower case first and tried as they were sent afterwards. */
  private find(name: string): Method | undefined {
    return this.methods.get(name.toLowerCase()) ?? this.methods.get(name)
  }

  private respond(address: Address, request: WireRequest, slower: number): Reply | Promise<Reply> {
    const start = now()
    const asked = askedOf(request, address.query)
    const credential =
      address.webhook ??
      (asked.auth === undefined ? undefined : ({ kind: "application", user: "0", secret: asked.auth } as const))
    const context: Context = { request, credential, slower }
    const performed = this.performRequest(address, asked, context, start)
    return performed instanceof Promise
      ? performed.then((done) => this.reply(address, done))
      : this.reply(address, performed)
  }

  private reply(address: Address, { outcome, timing }: Performed): Reply {
    if (address.format === "json") return envelope(outcome, timing)
    const reply = envelope(outcome, timing)
    const value: Value =
      outcome instanceof Refusal ? refusalBody(outcome) : { result: outcome instanceof Page ? outcome.result : outcome }
    return {
      ...reply,
      headers: reply.headers.replace("application/json", "text/xml"),
      body: Buffer.from(encodeXml(value))
    }
  }

  private performRequest(
    address: Address,
    asked: Asked,
    context: Context,
    start: number
  ): Performed | Promise<Performed> {
    // The signed link that this parameter announces is for files; no method of ours has one.
    if (asked.token !== undefined) return this.refuse(new Refusal(403, "ACCESS_DENIED", "Access denied"), start)
    if (address.method.toLowerCase() === "batch") return this.performBatch(asked.params, context, start)
    return this.perform(address.method, asked.params, asked.start, context, start)
  }

  private async performBatch(params: Value, context: Context, start: number): Promise<Performed> {
    const refusal = this.credentials.refusal(context.credential, "")
    if (refusal !== undefined) return this.refuse(refusal, start)
    const begun = now()
    const outcome = await runBatch(
      params,
      (method, given) => {
        const inner = withoutStart(given)
        return this.perform(method, inner.params, inner.start, context, now())
      },
      () => false
    )
    return { outcome, timing: this.timing(start, begun) }
  }

  private refuse(refusal: Refusal, start: number): Performed {
    this.refusals.set(String(refusal.code), (this.refusals.get(String(refusal.code)) ?? 0) + 1)
    return { outcome: refusal, timing: this.timing(start, start) }
  }

  private timing(start: number, begun: number): Timing {
    const finish = now()
    return { start, finish, processing: seconds(finish - begun) }
  }

  private perform(
    name: string,
    params: Value,
    offset: number,
    context: Context,
    start: number
  ): Performed | Promise<Performed> {
    const method = this.find(name)
    // The name is looked up before the credential is: an unknown method says nothing about the secret.
    if (method === undefined) return this.refuse(methodNotFound, start)
    const { credential } = context
    const refusal = this.credentials.refusal(credential, method.scope)
    if (refusal !== undefined || credential === undefined) {
      return this.refuse(refusal ?? methodNotFound, start)
    }
    const call: Call = {
      method: name,
      params,
      start: offset,
      credential,
      crm: this.crm,
      now: start,
      request: context.request
    }
    const wait = this.latencyOf(name.toLowerCase()) + context.slower
    if (wait > 0) return sleep(wait).then(() => this.run(method, call, start))
    return this.run(method, call, start)
  }

  private latencyOf(name: string): number {
    return typeof this.latency === "number" ? this.latency : (this.latency[name] ?? this.latency["*"] ?? 0)
  }

  private run(method: Method, call: Call, start: number): Performed | Promise<Performed> {
    const rights = this.rightsRefusal(method, call)
    const outcome = rights ?? this.outcomeOf(method, call)
    return outcome instanceof Promise
      ? outcome.then((late) => this.ran(method, call, late, start))
      : this.ran(method, call, outcome, start)
  }

  private outcomeOf(method: Method, call: Call): Outcome | Promise<Outcome> {
    const failed = new Refusal(500, "INTERNAL_SERVER_ERROR", "Internal server error")
    try {
      const outcome = method.run(call)
      return outcome instanceof Promise ? outcome.catch(() => failed) : outcome
    } catch {
      return failed
    }
  }

  private rightsRefusal(method: Method, call: Call): Refusal | undefined {
    if (method.scope === "" || this.credentials.standing(call.credential) !== "noRights") return undefined
    if (call.method.toLowerCase().startsWith("crm.item.")) return new Refusal(400, "ACCESS_DENIED", "Access denied.")
    if (method.scope === "bizproc") return new Refusal(403, "ACCESS_DENIED", "Access denied!")
    return new Refusal(400, "", "Access denied.")
  }

  private ran(method: Method, call: Call, outcome: Outcome, start: number): Performed {
    const refused = outcome instanceof Refusal
    this.executions.record({
      at: Math.round(start),
      user: call.credential.user,
      secret: call.credential.secret,
      method: call.method,
      key: this.executions.keyOf(call.method, call.params),
      write: method.write,
      error: refused
        ? String(outcome.code)
        : !(outcome instanceof Page) && isErrorInside(outcome)
          ? errorCode(outcome)
          : undefined
    })
    if (refused) this.refusals.set(String(outcome.code), (this.refusals.get(String(outcome.code)) ?? 0) + 1)
    this.changed()
    return { outcome, timing: this.timing(start, start) }
  }
}
