import { runBatch, type Performed } from "./batch.ts"
import type { Credentials } from "./credentials.ts"
import { envelope, isErrorInside, Page, Refusal, refusalBody } from "./envelope.ts"
import type { Address, Asked } from "./inbound.ts"
import { withoutStart } from "./inbound.ts"
import { now, type Context, type Performer } from "./performer.ts"
import type { Value } from "./value.ts"
import type { Reply } from "./http.ts"
import { encodeXml } from "./xml.ts"

/** The refusals of v2 that stand in front of a method. */
export const secondWords = {
  notFound: new Refusal(404, "ERROR_METHOD_NOT_FOUND", "Method not found!"),
  blocked: new Refusal(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.")
}

const seconds = (ms: number): number => Math.round(ms * 1000) / 1_000_000

/** The second version of REST: `/rest/USER/SECRET/METHOD`. */
export class SecondVersion {
  private readonly performer: Performer
  private readonly credentials: Credentials

  constructor(performer: Performer, credentials: Credentials) {
    this.performer = performer
    this.credentials = credentials
  }

  respond(address: Address, asked: Asked, context: Context): Reply | Promise<Reply> {
    const performed = this.perform(address.method, asked, context)
    return performed instanceof Promise
      ? performed.then((done) => this.reply(address, done, context))
      : this.reply(address, performed, context)
  }

  private perform(method: string, asked: Asked, context: Context): Performed | Promise<Performed> {
    // The signed link that this parameter announces is for files; no method of ours has one.
    if (asked.token !== undefined) {
      return this.performer.refuse(new Refusal(403, "ACCESS_DENIED", "Access denied"), now())
    }
    if (method.toLowerCase() === "batch") return this.batch(asked.params, context)
    return this.performer.perform(method, asked.params, asked.start, context)
  }

  private async batch(params: Value, context: Context): Promise<Performed> {
    const start = now()
    const { credential, ledger } = context
    const { operating } = this.performer
    const refusal = this.credentials.refusal(credential, "")
    if (refusal !== undefined || credential === undefined) {
      return this.performer.refuse(refusal ?? secondWords.notFound, start)
    }
    const pays = operating.rule.payer === "batch"
    if (pays && operating.blocks(credential, "batch", ledger, start)) {
      return this.performer.refuse(secondWords.blocked, start)
    }
    const before = operating.operating(credential, "batch", ledger, start)
    const inner: Context = pays ? { ...context, batchPays: before ?? { sum: 0, resetAt: 0 } } : context
    const outcome = await runBatch(
      params,
      (method, given) => {
        const { params, start } = withoutStart(given)
        return this.performer.perform(method, params, start, inner)
      },
      () => context.life.stopped
    )
    const finish = now()
    const processing = seconds(finish - start)
    // Where its methods pay, `batch` itself is exempt and its own sum stays at nothing.
    if (pays) operating.note(ledger, "batch", processing)
    return {
      outcome,
      timing: { start, finish, processing, operating: operating.operating(credential, "batch", ledger, finish) }
    }
  }

  private reply(address: Address, { outcome, timing }: Performed, context: Context): Reply {
    if (context.credential !== undefined) {
      this.performer.operating.book(context.credential, context.ledger, timing.finish)
    }
    const reply = envelope(outcome, timing)
    if (address.format === "json") return reply
    const plain = outcome instanceof Page ? outcome.result : outcome
    const value: Value =
      plain instanceof Refusal ? refusalBody(plain) : isErrorInside(plain) ? plain : { result: plain }
    return {
      ...reply,
      headers: reply.headers.replace("application/json", "text/xml"),
      body: Buffer.from(encodeXml(value))
    }
  }
}
