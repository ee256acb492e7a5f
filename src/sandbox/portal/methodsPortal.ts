import { Refusal } from "./envelope.ts"
import { reads, refused, writes, type Call, type Methods } from "./method.ts"
import { decodeJson } from "./json.ts"
import { textOfBytes } from "./php.ts"
import { integerOf, isTrue, param, Raw, textOf, type Value } from "./value.ts"

const scopes = ["crm", "task", "tasks", "user", "im", "bizproc", "lists", "telephony"]

// Controllers are no entries of the list that `methods` reads, and `method.get` looks up the very spelling it is given
// (zenland-dev/n8n-nodes-bitrix24:README.md).
const isController = (name: string): boolean => name.startsWith("crm.item.") || name.startsWith("tasks.task.")

/** What a portal says of itself. */
export const portalMethods = (known: () => Iterable<string>): Methods => ({
  ...reads("", {
    "server.time": (call) => new Date(call.now + 3 * 3_600_000).toISOString().replace(/\.\d+Z$/, "+03:00"),
    "app.info": () => ({ SCOPE: scopes, LICENSE: "ru_selfhosted" }),
    scope: () => scopes,
    methods: () => [...known()].filter((name) => !isController(name)),
    "method.get": (call) => {
      const name = textOf(param(call.params, "name"))
      const isExisting = [...known()].includes(name)
      return { isExisting, isAvailable: isExisting }
    },
    "feature.get": (call) =>
      textOf(param(call.params, "CODE")) === "" ? refused("CODE can't be empty", "CODE_EMPTY") : { value: "Y" }
  }),
  // Its name says otherwise, but it deletes what it returns, unless told not to.
  ...writes("", {
    "event.offline.get": (call) => {
      const table = call.crm.table("offlineevent")
      const { rows } = table.select({ filter: [], order: [], start: -1 })
      const clear = param(call.params, "clear")
      if (clear === undefined || isTrue(clear)) for (const row of rows) table.delete(integerOf(row.get("ID")))
      return {
        process_id: clear === undefined || isTrue(clear) ? null : `p${call.crm.next("process")}`,
        events: rows.map((row) => Object.fromEntries(row))
      }
    }
  })
})

const isJson = (call: Call): boolean =>
  (call.request.headers.get("content-type") ?? "").split(";")[0]?.trim() === "application/json"

const echo = (call: Call): Value => {
  // Inside a batch the body of the request is the batch's own.
  if (!isJson(call) || call.request.target.includes("batch")) return call.params
  const text = textOfBytes(call.request.body).trim()
  return decodeJson(text) === undefined ? call.params : new Raw(text)
}

const raw = (call: Call): Value => ({
  verb: call.request.verb,
  target: call.request.target,
  bytes: call.request.body.length,
  sha256: new Bun.CryptoHasher("sha256").update(call.request.body).digest("hex"),
  headers: Object.fromEntries(call.request.headers)
})

const wait = (call: Call): Promise<Value> =>
  new Promise((done) => setTimeout(() => done(true), Number(textOf(param(call.params, "seconds"))) * 1000))

const pushOrder = (call: Call): Value | Refusal => {
  const order = Number(textOf(param(call.params, "order")))
  if (order === 0) return { error: "ERP_DOWN", error_description: "try later" }
  return order > 1000 ? new Refusal(402, "NO_MONEY", "Limit") : { accepted: true }
}

/**
 * Methods that a self-hosted portal might have of its own
 * (bitrix24/b24restdocs:settings/cloud-and-on-premise/on-premise/custom-methods.md).
 *
 * `sandbox.echo` answers the parameters, for a JSON body its very text; `sandbox.raw` what came over the wire;
 * `sandbox.wait` takes `seconds`; `erp.order.push` accepts orders up to 1000, is down for order 0 and wants money above.
 */
export const customMethods: Methods = {
  ...reads("", { "sandbox.echo": echo, "sandbox.raw": raw }),
  ...writes("", { "sandbox.wait": wait, "erp.order.push": pushOrder })
}
