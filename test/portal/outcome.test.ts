import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { Done, judge, moved, type Outcome, oversized, provesLife, refusalOfWebhook } from "../../src/portal/outcome.ts"

const bytes = (text: string) => Buffer.from(text)
const error = (code: unknown, text = "") => JSON.stringify({ error: code, error_description: text })
const third = (name: string) => JSON.stringify({ error: { code: `BITRIX_REST_V3_EXCEPTION_${name}`, message: "no" } })
const html = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body></body>\r\n</html>"

/** An outcome in a few words. */
const words = (outcome: Outcome) => {
  switch (outcome._tag) {
    case "Done":
      return "done"
    case "Refused":
      return outcome.alarm === undefined ? "refused" : `refused, alarm: ${outcome.alarm}`
    case "Limited":
      return `limited: ${outcome.scope}`
    case "Unavailable":
      return outcome.alarm === undefined ? "unavailable" : `unavailable, alarm: ${outcome.alarm}`
    case "Unknown":
      return outcome.silent ? "unknown, is the portal there?" : "unknown"
  }
}

type Row = readonly [statuses: ReadonlyArray<number> | number, body: string, outcome: ReturnType<typeof words>]

/**
 * What a portal may answer, and what it means. Statuses as in both revisions of the vendor's page
 * (bitrix24/b24restdocs:_includes/system-errors.md): the code decides.
 */
const table: ReadonlyArray<Row> = [
  // The portal is asked too much.
  [[503, 429, 200], error("QUERY_LIMIT_EXCEEDED", "Too many requests"), "limited: portal"],
  [[429, 200], error("OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit."), "limited: method"],
  [429, third("RATELIMITEXCEPTION"), "limited: method"],
  // The account.
  [[503, 401], error("OVERLOAD_LIMIT", "REST API is blocked due to overload."), "unavailable, alarm: account"],
  [[500, 403], error("PORTAL_DELETED", "Portal was deleted"), "unavailable, alarm: account"],
  [[403, 401], error("ACCESS_DENIED", "REST API is available only on commercial plans"), "unavailable, alarm: account"],
  [[403, 401], error("ACCESS_DENIED", "REST is available only on commercial plans."), "unavailable, alarm: account"],
  [[403, 401], error("ACCESS_DENIED", "REST is available only by subscription"), "unavailable, alarm: account"],
  // The same code about one entity.
  [[400, 403, 401], error("ACCESS_DENIED", "Access denied!"), "refused"],
  [400, error("ACCESS_DENIED", "You may not see the rest of this plan, it is by subscription"), "refused"],
  [400, error("ACCESS_DENIED", "Доступ запрещен"), "refused"],
  // The credential.
  [401, error("NO_AUTH_FOUND", "Wrong authorization data"), "refused, alarm: credential"],
  [[403, 401], error("INVALID_CREDENTIALS", "Invalid request credentials"), "refused, alarm: credential"],
  [401, error("authorization_error", "Unable to authorize user"), "refused, alarm: credential"],
  [401, error("expired_token", "The access token provided has expired"), "refused, alarm: credential"],
  [401, error("invalid_token"), "refused, alarm: credential"],
  [401, error("APPLICATION_NOT_FOUND"), "refused, alarm: credential"],
  [[400, 401], error("INVALID_REQUEST", "Https required"), "refused, alarm: credential"],
  [400, error("INVALID_REQUEST", "Something else"), "refused"],
  // What a method, or the module in front of it, says no to.
  [[403, 401], error("insufficient_scope", "The request requires higher privileges"), "refused"],
  [403, third("INSUFFICIENTSCOPEEXCEPTION"), "refused"],
  [[403, 401], error("user_access_error"), "refused"],
  [404, error("ERROR_METHOD_NOT_FOUND", "Method not found!"), "refused"],
  [404, third("METHODNOTFOUNDEXCEPTION"), "refused"],
  [[405, 200], error("ERROR_BATCH_METHOD_NOT_ALLOWED"), "refused"],
  [[400, 200], error("ERROR_BATCH_LENGTH_EXCEEDED"), "refused"],
  [400, error("ERROR_ARGUMENT"), "refused"],
  [400, error("INVALID_ARG_VALUE"), "refused"],
  [400, error("CRM_FIELD_ERROR_VALUE_NOT_VALID"), "refused"],
  [400, error("NOT_FOUND", "Item not found"), "refused"],
  [400, error("ERROR_CORE", "Comment text is not specified<br>"), "refused"],
  [403, error("allowed_only_intranet_user"), "refused"],
  [403, error("WRONG_AUTH_TYPE"), "refused"],
  [403, error("WRONG_LICENSE"), "refused"],
  [403, error("METHOD_CONFIRM_DENIED"), "refused"],
  [401, error("METHOD_CONFIRM_WAITING"), "refused"],
  [404, error("ERROR_MANIFEST_IS_NOT_AVAILABLE"), "refused"],
  [[400, 402, 409, 418, 499], error("NO_MONEY", "a code of a self-written method"), "refused"],
  [400, third("INVALIDJSONEXCEPTION"), "refused"],
  [400, third("VALIDATION_REQUESTVALIDATIONEXCEPTION"), "refused"],
  [403, third("ACCESSDENIEDEXCEPTION"), "refused"],
  [422, third("IDEMPOTENCYKEYREUSEDEXCEPTION"), "refused"],
  [400, third("INVALIDIDEMPOTENCYKEYEXCEPTION"), "refused"],
  // An error inside of success.
  [200, error("ERP_DOWN", "try later"), "refused"],
  [200, error("", "Access denied."), "refused"],
  [200, third("ENTITYNOTFOUNDEXCEPTION"), "refused"],
  // The form of the code.
  [400, error("", "Not found"), "refused"],
  [400, error("0"), "refused"],
  [400, error(0), "refused"],
  [400, error(100, "Could not find value for parameter {fields}"), "refused"],
  [400, error(1_048_582), "refused"],
  [400, error("200040300010"), "refused"],
  [400, '{"error":123456789012345678901234567890}', "refused"],
  [400, '{"error":1e999}', "refused"],
  [400, '{"error":"QUERY_LIMIT_EXCEEDED","error":"OTHER"}', "refused"],
  [400, '{"error":"NOT_FOUND","error_description":null,"argument":"id"}', "refused"],
  [400, '{"error":{"message":"no code"}}', "refused"],
  [400, '{"error":{"code":{"toString":1},"message":["x"]}}', "refused"],
  [400, '{"error":"X","error_description":{"toString":1,"valueOf":1}}', "refused"],
  [400, error("constructor"), "refused"],
  [400, error("__proto__"), "refused"],
  [400, error("toString"), "refused"],
  [400, '{"error":null}', "refused"],
  [400, '{"message":"from a gateway"}', "refused"],
  [400, "[]", "refused"],
  // It may have been executed.
  [500, error("INTERNAL_SERVER_ERROR", "Internal server error"), "unknown"],
  [[500, 200], error("ERROR_UNEXPECTED_ANSWER"), "unknown"],
  [500, error("ERROR_CORE", "SQL query error!"), "unknown"],
  [[500, 400], third("INTERNAL_INTERNALEXCEPTION"), "unknown"],
  [[500, 502, 503, 504], error("SOME_CODE_OF_A_GATEWAY"), "unknown"],
  [503, error("ACCESS_DENIED", "Access denied."), "unknown"],
  [[500, 502, 503, 504], '{"message":"Bad Gateway"}', "unknown, is the portal there?"],
  [[500, 502, 503, 504], "[]", "unknown, is the portal there?"],
  [[500, 502, 503, 504, 200, 403, 404], html, "unknown, is the portal there?"],
  [[500, 502, 200, 204], "", "unknown, is the portal there?"],
  // Executed, and only the answer is lost.
  [[200, 500], error("WRONG_ENCODING", "Wrong encoding"), "done"],
  // Not JSON, or not all of it.
  [200, '{"result":{"ID":"37","TITLE":"cut o', "unknown, is the portal there?"],
  [200, '{"result":true}{"result":true}', "unknown, is the portal there?"],
  [200, "<br />\n<b>Fatal error</b>: Allowed memory size exhausted", "unknown, is the portal there?"],
  [200, '<br />\n<b>Warning</b>: x in y on line 1<br />\n{"result":1}', "unknown, is the portal there?"],
  [200, "true", "unknown, is the portal there?"],
  [200, '"text"', "unknown, is the portal there?"],
  [200, "null", "unknown, is the portal there?"],
  [200, "[".repeat(200_000), "unknown, is the portal there?"],
  // The web server refuses the size.
  [[413, 414], html, "refused"],
  [[413, 414], "", "refused"],
  // Done.
  [200, '{"result":50231,"time":{"operating":0}}', "done"],
  [[200, 201], '{"result":true}', "done"],
  [200, '{"result":null}', "done"],
  [200, '{"result":[],"total":0}', "done"],
  [200, '{"result":12345678901234567890123}', "done"],
  [200, '\ufeff{"result":1}', "done"],
  [200, '\ufeff\ufeff{"result":1}\r\n', "done"],
  [400, '\ufeff{"error":"NOT_FOUND"}', "refused"],
  [200, '{"openapi":"3.0.0"}', "done"],
  [200, "[]", "done"],
  [200, '{"error":null,"result":1}', "done"],
  [200, '{"error":false}', "done"],
  // Beside a result it is the method's own word: the portal adds a result to all but its errors.
  [200, '{"result":{"ok":true},"error":"QUERY_LIMIT_EXCEEDED"}', "done"],
  [400, '{"result":[],"error":"NOT_FOUND","error_description":""}', "refused"],
  [200, '{"result":{"error":"NOT_FOUND","error_description":"inside"}}', "done"],
  [
    200,
    '{"result":{"result":[],"result_error":{"m0":{"error":"QUERY_LIMIT_EXCEEDED","error_description":""}}},"time":{}}',
    "done"
  ]
]

describe("an answer of the portal", () => {
  for (const [statuses, body, outcome] of table) {
    for (const status of [statuses].flat()) {
      test(`${status} ${JSON.stringify(body.slice(0, 90))}: ${outcome}`, () => {
        const judged = judge(status, bytes(body))
        expect(words(judged)).toBe(outcome)
        if (judged._tag === "Done" || (judged._tag === "Refused" && status !== 413 && status !== 414)) {
          expect(judged.status).toBe(status)
          expect(Buffer.from(judged.body).toString()).toBe(body)
        }
      })
    }
  }

  test("in another encoding is passed on as it is", () => {
    for (const inside of [
      [0xff, 0xfe],
      [0xcf, 0xf0, 0xe8, 0xe2, 0xe5, 0xf2],
      [0xed, 0xa0, 0x80]
    ]) {
      const body = Buffer.concat([bytes('{"result":"'), Buffer.from(inside), bytes('"}')])
      expect(judge(200, body)).toEqual(Done({ status: 200, body, time: undefined }))
    }
    // UTF-16, and a body that is compressed after all.
    expect(words(judge(200, Buffer.from('{"result":1}', "utf16le")))).toBe("unknown, is the portal there?")
    expect(words(judge(200, Bun.gzipSync('{"result":1}')))).toBe("unknown, is the portal there?")
  })

  test("may be a part of a larger buffer", () => {
    const body = bytes('xx{"result":1}yy').subarray(2, -2)
    expect(judge(200, body)).toEqual(Done({ status: 200, body, time: undefined }))
  })

  test("that refuses names its code, as a word", () => {
    const codeOf = (body: string) => {
      const judged = judge(400, bytes(body))
      return judged._tag === "Refused" ? judged.code : undefined
    }
    expect([error("NOT_FOUND"), error(""), error(100), third("X"), error(null)].map(codeOf)).toEqual([
      "NOT_FOUND",
      "",
      "100",
      "BITRIX_REST_V3_EXCEPTION_X",
      ""
    ])
  })

  test("413 and 414 without JSON are put into words, for the web server's page is no answer", () => {
    const judged = judge(413, bytes(html))
    expect(judged).toMatchObject({ _tag: "Refused", status: 413, code: "B24RMQ_REQUEST_TOO_LARGE" })
    expect(judged._tag === "Refused" && JSON.parse(Buffer.from(judged.body).toString())).toMatchObject({
      error: "B24RMQ_REQUEST_TOO_LARGE"
    })
  })

  test("gives a reason that cannot repeat an address, whatever a gateway writes", () => {
    const reasonOf = (outcome: Outcome) => ("reason" in outcome ? outcome.reason : undefined)
    const echo = "POST /rest/1/canary0token/crm.deal.add"
    for (const body of [error(echo), third(echo), html.replace("502", echo), JSON.stringify({ message: echo })]) {
      for (const status of [500, 502]) expect(reasonOf(judge(status, bytes(body)))).not.toContain("canary")
    }
    expect(reasonOf(judge(500, bytes(error("INTERNAL_SERVER_ERROR"))))).toBe("INTERNAL_SERVER_ERROR")
    expect(reasonOf(judge(500, bytes(error(""))))).toBe("HTTP 500")
  })
})

/** Bodies that come near to what portals say, and bytes that do not. */
const body = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.json().map(bytes),
  fc
    .record(
      {
        error: fc.oneof(
          fc.jsonValue(),
          fc.string(),
          fc.constantFrom(
            "QUERY_LIMIT_EXCEEDED",
            "OPERATION_TIME_LIMIT",
            "ACCESS_DENIED",
            "WRONG_ENCODING",
            "constructor"
          ),
          fc.record({ code: fc.jsonValue(), message: fc.jsonValue() })
        ),
        error_description: fc.oneof(fc.jsonValue(), fc.constant("REST is available only on commercial plans")),
        result: fc.jsonValue()
      },
      { requiredKeys: [] }
    )
    .map((answer) => bytes(JSON.stringify(answer))),
  fc.tuple(fc.json(), fc.nat({ max: 30 })).map(([text, cut]) => bytes(`{"result":${text}}`.slice(0, cut)))
)
const status = fc.oneof(
  fc.constantFrom(200, 400, 401, 403, 404, 413, 429, 500, 502, 503),
  fc.integer({ min: 100, max: 599 })
)

test("the webhook is to blame for what its credential or scope was refused for, and for nothing else", () => {
  const isToBlame = (text: string, said: string) =>
    said === "refused, alarm: credential" || /insufficient_?scope/i.test(text)
  for (const [statuses, text, said] of table) {
    if (!said.startsWith("refused")) continue
    for (const status of [statuses].flat()) {
      const refusal = refusalOfWebhook(status, bytes(text))
      expect([status, text, refusal !== undefined]).toEqual([status, text, isToBlame(text, said)])
    }
  }
  expect(refusalOfWebhook(401, bytes(error("expired_token", "It has expired")))).toEqual({
    code: "expired_token",
    text: "It has expired"
  })
})

test("any bytes with any status end as one outcome, which passes them on unchanged", () => {
  const seen = new Set<string>()
  fc.assert(
    fc.property(status, body, (status, body) => {
      const before = Buffer.from(body)
      const judged = judge(status, body)
      seen.add(judged._tag)
      expect(before.equals(body)).toBe(true)
      if (judged._tag === "Done") {
        expect(judged).toMatchObject({ status })
        expect(judged.body).toBe(body)
      }
      if (judged._tag === "Refused" && judged.code !== "B24RMQ_REQUEST_TOO_LARGE") expect(judged.body).toBe(body)
      // Silence in place of an answer is nothing but Unknown.
      if (judged._tag === "Unknown") expect(judged).toMatchObject({ status, timedOut: false })
      // Whoever spoke JSON in the portal's own form is alive.
      expect(provesLife(judged)).toBe(!(judged._tag === "Unavailable" || (judged._tag === "Unknown" && judged.silent)))
    }),
    { numRuns: 10_000 }
  )
  expect([...seen].toSorted()).toEqual(["Done", "Limited", "Refused", "Unavailable", "Unknown"])
})

test("an answer that is not whole is never taken for done or refused", () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.boolean(), fc.nat(), (value, isError, cut) => {
      const whole = bytes(
        JSON.stringify(isError ? { error: "NOT_FOUND", error_description: value } : { result: value })
      )
      const judged = judge(isError ? 400 : 200, whole.subarray(0, cut % whole.length))
      expect(words(judged)).toBe("unknown, is the portal there?")
    }),
    { numRuns: 3_000 }
  )
})

test("a redirect was not executed, is followed by nobody, and names the new host but no path", () => {
  expect(moved(302, "https://new.example/rest/1/canary0token/profile")).toMatchObject({
    _tag: "Unavailable",
    reason: "HTTP 302, moved to new.example: change B24REST",
    alarm: "account"
  })
  for (const location of [null, "", "/rest/1/canary0token/profile", "nonsense", "https://"]) {
    expect(moved(301, location)).toMatchObject({ _tag: "Unavailable", reason: "HTTP 301, moved" })
  }
})

test("an answer too long to be read still has its status", () => {
  const told = (outcome: Outcome) => ("body" in outcome ? Buffer.from(outcome.body).toString() : "")
  expect(words(oversized(200))).toBe("done")
  expect(told(oversized(200))).toContain("B24RMQ_ANSWER_TOO_LARGE")
  expect(words(oversized(400))).toBe("refused")
  expect(told(oversized(400))).toContain("B24RMQ_ANSWER_TOO_LARGE")
  expect(words(oversized(502))).toBe("unknown, is the portal there?")
})

test("where the portal does not count operating time, an answer still tells what it took", () => {
  const judged = (time: string) => judge(200, Buffer.from(`{"result":1,"time":${time}}`))
  expect(judged('{"duration":0.3,"processing":0.2}')).toMatchObject({ time: { sum: 0, resetIn: undefined, took: 0.2 } })
  expect(judged('{"duration":0.3}')).toMatchObject({ time: { took: 0.3 } })
  expect(judged("[]")).toMatchObject({ time: undefined })
})
