import { methodsIn } from "./batch.ts"
import { Credentials, type Credential } from "./credentials.ts"
import { Crm } from "./crm.ts"
import { htmlReply, jsonReply, Refusal, refusalBody } from "./envelope.ts"
import { Executions, type KeyRule } from "./executions.ts"
import { Faults, insteadOf, spoil, type Fault } from "./faults.ts"
import { addressOf, askedOf, type Address } from "./inbound.ts"
import { limitsOf, OperatingSums, RateBuckets, type LimitOptions, type Limits, type Preset } from "./limits.ts"
import { now, Performer, sleep, type Context } from "./performer.ts"
import { Registry, type Latency } from "./registry.ts"
import { SecondVersion, secondWords } from "./second.ts"
import { thirdBody, thirdCredential, ThirdVersion, thirdWords } from "./third.ts"
import type { Delivery, Reply, WireRequest } from "./http.ts"

export interface CoreOptions {
  readonly keep: number
  readonly smartProcesses: ReadonlyArray<number>
  readonly key?: KeyRule
  readonly latency?: Latency
  readonly limits?: LimitOptions | Preset
}

const tooMany = refusalBody(new Refusal(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"))

/** The portal behind its door: from a request to what is delivered for it. */
export class Core {
  readonly credentials = new Credentials()
  readonly faults = new Faults()
  readonly executions: Executions
  readonly crm: Crm
  readonly performer: Performer
  readonly second = Registry.second()
  readonly third = Registry.third()
  requests = 0
  inFlight = 0
  maxInFlight = 0
  private readonly secondVersion: SecondVersion
  private readonly thirdVersion: ThirdVersion
  private limits: Limits
  private rate: RateBuckets
  private watchers: ReadonlyArray<() => void> = []
  private readonly options: CoreOptions

  constructor(options: CoreOptions) {
    this.options = options
    this.limits = limitsOf(options.limits)
    this.rate = new RateBuckets(this.limits.rate)
    this.executions = new Executions(options.keep, options.key)
    this.crm = new Crm(options.keep, options.smartProcesses)
    const { credentials, executions, crm } = this
    const operating = new OperatingSums(this.limits.operating)
    this.performer = new Performer({ credentials, executions, crm, operating, changed: () => this.changed() })
    this.performer.latency = options.latency ?? 0
    this.secondVersion = new SecondVersion(this.performer, credentials)
    this.thirdVersion = new ThirdVersion(this.performer, options.keep)
  }

  /** Sets the limits anew, with empty buckets. */
  limit(options: LimitOptions | Preset | undefined): void {
    this.limits = limitsOf(options)
    this.rate = new RateBuckets(this.limits.rate)
    this.performer.operating = new OperatingSums(this.limits.operating)
  }

  get limitsNow(): Limits {
    return this.limits
  }

  /** Forgets everything that has happened and been set; connections stay. */
  reset(): void {
    this.credentials.clear()
    this.faults.clear()
    this.executions.clear()
    this.crm.clear()
    this.performer.refusals.clear()
    this.performer.latency = this.options.latency ?? 0
    this.thirdVersion.replays.clear()
    this.second.reset()
    this.third.reset()
    this.limit(this.options.limits)
    this.requests = 0
    this.maxInFlight = this.inFlight
  }

  /** Looks with every change until it has seen enough; what comes back makes it stop. */
  watch(enough: () => boolean): () => void {
    const stop = (): void => {
      this.watchers = this.watchers.filter((other) => other !== look)
    }
    const look = (): void => {
      if (enough()) stop()
    }
    this.watchers = [...this.watchers, look]
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
    const fail = (error: unknown): never => {
      this.inFlight--
      throw error
    }
    try {
      this.changed()
      const delivery = this.deliveryFor(address, request)
      if (!(delivery instanceof Promise)) return this.left(delivery, request)
      return delivery.then((late) => this.left(late, request), fail)
    } catch (error) {
      return fail(error)
    }
  }

  private deliveryFor(address: Address, request: WireRequest): Delivery | Promise<Delivery> {
    // The bucket stands in front of everything: it asks neither for a method nor for a credential.
    if (!this.rate.admits(request.remoteAddress, now())) return this.tooMany()
    const striking = this.faults.striking({
      method: address.method.toLowerCase(),
      isWrite: () => this.isWrite(address, request),
      body: request.body
    })
    return striking.length === 0 ? this.respond(address, request, 0) : this.struck(striking, address, request)
  }

  private tooMany(): Reply {
    const { refusals } = this.performer
    refusals.set("QUERY_LIMIT_EXCEEDED", (refusals.get("QUERY_LIMIT_EXCEEDED") ?? 0) + 1)
    return jsonReply(503, tooMany)
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
    const delivery = await this.respond(address, request, slower)
    if (instead !== undefined) return instead.delivery
    return typeof delivery === "string" ? delivery : faults.reduce((reply, fault) => spoil(fault, reply), delivery)
  }

  private isWrite(address: Address, request: WireRequest): boolean {
    const { second, third } = this
    if (address.version === 3) return third.find(address.method)?.write ?? true
    if (address.method.toLowerCase() !== "batch") return second.find(address.method)?.write ?? true
    return methodsIn(askedOf(request, address.query).params).some((name) => second.find(name)?.write ?? true)
  }

  private respond(address: Address, request: WireRequest, slower: number): Delivery | Promise<Delivery> {
    const gone = this.credentials.portalRefusal()
    if (gone !== undefined) return jsonReply(gone.status, refusalBody(gone))
    const { context, reply } = this.dispatched(address, request, slower)
    return reply instanceof Promise ? this.inTime(reply, context) : reply
  }

  private dispatched(
    address: Address,
    request: WireRequest,
    slower: number
  ): { readonly context: Context; readonly reply: Reply | Promise<Reply> } {
    const shared = { request, slower, ledger: new Map<string, number>(), life: { stopped: false } }
    if (address.version === 3) {
      const body = thirdBody(request)
      const credential = thirdCredential(address, body)
      const context: Context = { ...shared, credential, registry: this.third, words: thirdWords }
      return { context, reply: this.thirdVersion.respond(address, body, context) }
    }
    const asked = askedOf(request, address.query)
    const credential: Credential | undefined =
      address.webhook ?? (asked.auth === undefined ? undefined : { kind: "application", user: "0", secret: asked.auth })
    const context: Context = { ...shared, credential, registry: this.second, words: secondWords }
    return { context, reply: this.secondVersion.respond(address, asked, context) }
  }

  private inTime(reply: Promise<Reply>, context: Context): Promise<Delivery> {
    const { after, answer, goesOn } = this.limits.time
    return new Promise((deliver, fail) => {
      const timer = setTimeout(() => {
        context.life.stopped = !goesOn
        deliver(answer === "html" ? htmlReply(504, "Gateway Time-out") : answer)
      }, after)
      reply.finally(() => clearTimeout(timer)).then(deliver, fail)
    })
  }
}
