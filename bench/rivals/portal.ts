/**
 * A portal that does nothing, as cheaply as can be: each call gets the same answer of about SIZE bytes, each batch as many
 * of them as it has commands. A process of its own, so that what it costs is nobody's.
 */
const size = Number(process.env["SIZE"] ?? 300)

const time = { start: 1.5, finish: 1.6, duration: 0.1, processing: 0.1, operating: 0.1, operating_reset_at: 1.7e9 }
const result = "r".repeat(Math.max(1, size - JSON.stringify({ result: "", time }).length))
const json = { headers: { "content-type": "application/json; charset=utf-8" } }
const one = Buffer.from(JSON.stringify({ result, time }))

const batches = new Map<number, Buffer>()
const many = (keys: ReadonlyArray<string>): Buffer => {
  const known = batches.get(keys.length)
  if (known !== undefined) return known
  const each = (value: unknown) => Object.fromEntries(keys.map((key) => [key, value]))
  const maps = { result: each(result), result_error: [], result_total: [], result_next: [], result_time: each(time) }
  const made = Buffer.from(JSON.stringify({ result: maps, time }))
  batches.set(keys.length, made)
  return made
}

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch: async (request) =>
    request.url.endsWith("/batch")
      ? new Response(many(Object.keys(((await request.json()) as { readonly cmd: object }).cmd)), json)
      : new Response(one, json)
})
console.log(JSON.stringify({ event: "listening", port: server.port }))
