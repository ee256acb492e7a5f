import type { Performed } from "./batch.ts"
import type { Credential, Credentials } from "./credentials.ts"
import type { Crm } from "./crm.ts"
import { isErrorInside, Page, Refusal, type Outcome } from "./envelope.ts"
import { errorCode, type Executions } from "./executions.ts"
import type { Ledger, OperatingSums } from "./limits.ts"
import type { Call, Method } from "./method.ts"
import type { Latency, Registry } from "./registry.ts"
import type { Value } from "./value.ts"
import type { WireRequest } from "./http.ts"

/** Milliseconds since 1970 with a fraction: the time block shows microseconds. */
export const now = (): number => performance.timeOrigin + performance.now()

export const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))

/** What all methods of one request share. */
export interface Context {
  readonly request: WireRequest
  readonly credential: Credential | undefined
  readonly registry: Registry
  /** The refusals that differ between the versions of REST. */
  readonly words: { readonly notFound: Refusal; readonly blocked: Refusal }
  /** Milliseconds that a fault adds to every method. */
  readonly slower: number
  readonly ledger: Ledger
  /** Where a batch pays for itself, what it had paid before: the number that all of its results show. */
  readonly batchPays?: { readonly sum: number; readonly resetAt: number } | undefined
  /** Set when the request has run out of time: nothing more is begun. */
  readonly life: { stopped: boolean }
}

const seconds = (ms: number): number => Math.round(ms * 1000) / 1_000_000

const failed = new Refusal(500, "INTERNAL_SERVER_ERROR", "Internal server error")

// A method that its request's time limit has stopped: its caller has its answer by then.
const killed = (start: number): Performed => ({
  outcome: new Refusal(504, "", ""),
  timing: { start, finish: now(), processing: 0 }
})

/** Runs one method, be it a request of its own or a command of a batch: who may, for how long, and what it leaves. */
export class Performer {
  latency: Latency = 0
  operating: OperatingSums
  readonly refusals = new Map<string, number>()
  private readonly credentials: Credentials
  private readonly executions: Executions
  private readonly crm: Crm
  private readonly changed: () => void

  constructor(parts: {
    readonly credentials: Credentials
    readonly executions: Executions
    readonly crm: Crm
    readonly operating: OperatingSums
    readonly changed: () => void
  }) {
    this.credentials = parts.credentials
    this.executions = parts.executions
    this.crm = parts.crm
    this.operating = parts.operating
    this.changed = parts.changed
  }

  /** A refusal in front of the method. */
  refuse(refusal: Refusal, start: number): Performed {
    this.count(refusal)
    return { outcome: refusal, timing: { start, finish: now(), processing: 0 } }
  }

  private count(refusal: Refusal): void {
    const code = String(refusal.code)
    this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1)
  }

  perform(name: string, params: Value, offset: number, context: Context): Performed | Promise<Performed> {
    const start = now()
    const method = context.registry.find(name)
    // The name is looked up before the credential is: an unknown method says nothing about the secret.
    if (method === undefined) return this.refuse(context.words.notFound, start)
    const { credential, ledger } = context
    const refusal = this.credentials.refusal(credential, method.scope)
    if (refusal !== undefined) return this.refuse(refusal, start)
    if (credential === undefined) return this.refuse(failed, start)
    const lower = name.toLowerCase()
    if (context.batchPays === undefined && this.operating.blocks(credential, lower, ledger, start)) {
      return this.refuse(context.words.blocked, start)
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
    const wait = this.latencyOf(lower) + context.slower
    if (wait === 0) return this.run(method, call, context)
    return sleep(wait).then(() => (context.life.stopped ? killed(start) : this.run(method, call, context)))
  }

  private latencyOf(name: string): number {
    return typeof this.latency === "number" ? this.latency : (this.latency[name] ?? this.latency["*"] ?? 0)
  }

  private run(method: Method, call: Call, context: Context): Performed | Promise<Performed> {
    const outcome = this.rightsRefusal(method, call) ?? this.outcomeOf(method, call)
    return outcome instanceof Promise
      ? outcome.then((late) => (context.life.stopped ? killed(call.now) : this.ran(method, call, late, context)))
      : this.ran(method, call, outcome, context)
  }

  private outcomeOf(method: Method, call: Call): Outcome | Promise<Outcome> {
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

  private ran(method: Method, call: Call, outcome: Outcome, context: Context): Performed {
    const error = errorOf(outcome)
    this.executions.record({
      at: Math.round(call.now),
      user: call.credential.user,
      secret: call.credential.secret,
      method: call.method,
      key: this.executions.keyOf(call.method, call.params),
      write: method.write,
      error
    })
    if (outcome instanceof Refusal) this.count(outcome)
    this.changed()
    const finish = now()
    const processing = seconds(finish - call.now)
    const name = call.method.toLowerCase()
    if (context.batchPays === undefined) this.operating.note(context.ledger, name, processing)
    return {
      outcome,
      timing: {
        start: call.now,
        finish,
        processing,
        operating: context.batchPays ?? this.operating.operating(call.credential, name, context.ledger, finish)
      }
    }
  }
}

const errorOf = (outcome: Outcome): string | undefined => {
  if (outcome instanceof Refusal) return String(outcome.code)
  return !(outcome instanceof Page) && isErrorInside(outcome) ? errorCode(outcome) : undefined
}
