import { Refusal } from "./envelope.ts"

/** Who calls: a webhook's user and secret, or an application's token. */
export interface Credential {
  readonly kind: "webhook" | "application"
  /** "0" for an application, whose user only its token knows. */
  readonly user: string
  readonly secret: string
}

/** What a portal holds against a credential. */
export type Standing =
  /** The webhook was deleted, or its secret changed. */
  | "revoked"
  | "expired"
  | "dismissed"
  /** The tariff has no REST. */
  | "tariff"
  /** Blocked for overload until a person at the vendor unblocks it. */
  | "overload"
  /** The whole portal is gone, or closed for maintenance. */
  | "deleted"
  /** The user may call, but sees and changes nothing. */
  | "noRights"
  | "good"
  /** Good for these scopes only. */
  | { readonly scope: ReadonlyArray<string> }

/**
 * Two revisions of the vendor's page of system errors give different statuses to refused credentials
 * (bitrix24/b24restdocs:_includes/system-errors.md). `later` is the one that the module agrees with.
 */
export type Revision = "earlier" | "later"

const refusals: Readonly<Record<string, { later: number; earlier: number; code: string; text: string }>> = {
  revoked: { later: 401, earlier: 403, code: "INVALID_CREDENTIALS", text: "Invalid request credentials" },
  expired: { later: 401, earlier: 401, code: "expired_token", text: "The access token provided has expired" },
  dismissed: { later: 401, earlier: 401, code: "authorization_error", text: "Unable to authorize user" },
  tariff: { later: 401, earlier: 403, code: "ACCESS_DENIED", text: "REST is available only by subscription" },
  overload: { later: 401, earlier: 503, code: "OVERLOAD_LIMIT", text: "REST API is blocked due to overload" },
  deleted: { later: 403, earlier: 500, code: "PORTAL_DELETED", text: "Portal was deleted" }
}

const named = (credential: Credential): string => `${credential.user}/${credential.secret}`

/**
 * The credentials of a portal. Until one is listed as known, every webhook of a numeric user and an alphanumeric secret
 * is good, and so is every token.
 */
export class Credentials {
  private readonly standings = new Map<string, Standing>()
  private closed = false
  private revision: Revision = "later"
  private everyone: Standing = "good"

  /** Sets the standing of `USER/SECRET` or of a token, or of everybody (`*`). */
  set(name: string, standing: Standing): void {
    if (name === "*") this.everyone = standing
    else this.standings.set(name.includes("/") ? name : `0/${name}`, standing)
  }

  /** From now on only credentials that were set are accepted. */
  acceptOnlyKnown(): void {
    this.closed = true
  }

  answerAs(revision: Revision): void {
    this.revision = revision
  }

  clear(): void {
    this.standings.clear()
    this.closed = false
    this.revision = "later"
    this.everyone = "good"
  }

  standing(credential: Credential): Standing {
    if (this.everyone !== "good") return this.everyone
    const set = this.standings.get(named(credential))
    if (set !== undefined) return set
    if (this.closed) return "revoked"
    if (credential.kind === "application") return "good"
    return /^\d+$/.test(credential.user) && /^[a-zA-Z0-9]+$/.test(credential.secret) ? "good" : "revoked"
  }

  /** A portal that is gone answers nothing else, not even that a method is unknown. */
  portalRefusal(): Refusal | undefined {
    const gone = refusals["deleted"]
    return this.everyone === "deleted" && gone !== undefined
      ? new Refusal(gone[this.revision], gone.code, gone.text)
      : undefined
  }

  /** Why a call with this credential to a method of this scope is not let in, if it is not. */
  refusal(credential: Credential | undefined, scope: string): Refusal | undefined {
    if (credential === undefined) return new Refusal(401, "NO_AUTH_FOUND", "Wrong authorization data")
    const standing = this.standing(credential)
    if (standing === "good" || standing === "noRights") return undefined
    if (typeof standing === "string") {
      const found = refusals[standing]
      return found === undefined ? undefined : new Refusal(found[this.revision], found.code, found.text)
    }
    if (scope === "" || standing.scope.includes(scope)) return undefined
    return new Refusal(
      this.revision === "later" ? 401 : 403,
      "insufficient_scope",
      `The request requires higher privileges than provided by the ${credential.kind === "webhook" ? "webhook" : "access"} token`
    )
  }
}
