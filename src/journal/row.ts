import { hash } from "node:crypto"
import { type Answer, ownError } from "../message/answer.ts"
import type { Request } from "../message/request.ts"
import type { Answered, Sent } from "./store.ts"

/** How the keys of all writes of one message_id begin: they lie together. */
export const beginningOf = (messageId: string) => hash("sha256", messageId, "base64url").slice(0, 12)

/** What tells a write from every other: portal, credential, message_id, method and body. `portal`: its address. */
export const keyOf = (portal: string, request: Request) =>
  beginningOf(request.messageId ?? "") + hash("sha256", `${portal} ${request.id}`, "base64url").slice(0, 32)

/** Longer answers are known by their digest only. */
const longestKept = 64 * 1024

/** What is known of a write that leaves once more. */
export const departed = (before: Sent | undefined, request: Request, at: number): Sent => ({
  at,
  firstAt: before?.firstAt ?? at,
  attempts: (before?.attempts ?? 0) + 1,
  stamped: request.stamped === true
})

/** What is kept of an answer. */
export const answeredBy = ({ outcome, status, attempts, packed, resolved, body }: Answer, at: number): Answered => ({
  outcome,
  status,
  attempts,
  packed: packed === true,
  resolved,
  body: body.length > longestKept ? undefined : body,
  bytes: body.length,
  digest: body.length > longestKept ? hash("sha256", body, "base64url") : undefined,
  at,
  confirmed: false
})

/** The answer to a repeat. */
export const answerOf = ({ outcome, status, attempts, packed, resolved, body, bytes, digest }: Answered): Answer => ({
  outcome,
  status,
  attempts,
  body:
    body ??
    ownError(
      "B24RMQ_ANSWER_NOT_KEPT",
      `This request was answered before and is not sent again. Its answer, ${bytes} bytes with the SHA-256 digest ${digest} (base64url), was too long to be kept.`
    ),
  ...(packed ? { packed: true as const } : {}),
  ...(resolved === undefined ? {} : { resolved })
})
