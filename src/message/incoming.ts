/** A message as it came from the queue, free of any broker library's types. */
export interface Incoming {
  readonly body: Uint8Array
  /** Header values as the client library decoded them: strings, numbers, Buffers, nested tables. */
  readonly headers: Readonly<Record<string, unknown>>
  readonly messageId: string | undefined
  readonly correlationId: string | undefined
  /** When it was made, as its producer or the broker says: seconds since 1970, if they keep to the protocol. */
  readonly timestamp: number | undefined
}
