import type { Message, MessageProperties, Options } from "amqplib"
import type { Incoming } from "../message/incoming.ts"

/** A message with all that it carries: what the bridge reads of it, and what only a copy of it needs. */
export interface Raw extends Incoming {
  readonly properties: MessageProperties
}

/** A message as it came from the client library. */
export const rawOf = ({ content, properties }: Message): Raw => ({
  body: content,
  headers: properties.headers ?? {},
  messageId: properties.messageId,
  correlationId: properties.correlationId,
  timestamp: properties.timestamp,
  properties
})

/**
 * Headers that no copy may have. CC and BCC send it to further queues (rabbitmq.com/docs/sender-selected); the others
 * are the broker's own account of a message, which it would take for the copy's or refuse.
 */
const brokers = /^(?:CC|BCC|x-death|x-(?:first|last)-death-.*|x-delivery-count|x-acquired-count|x-stream-offset)$/

/**
 * Publishes a message once more, persistent, with headers of our own; one of ours that is undefined is left out, whoever
 * wrote it. Not copied are `user_id`, for which the broker would close the channel of another user, `expiration`, which
 * would let the broker discard it, and the headers above.
 *
 * The client library reads values without their types. What is written here reads the same again; an integer may
 * have become a shorter one on the wire. It throws what it cannot encode when this is published.
 */
export const copyOf = (properties: MessageProperties, own: Readonly<Record<string, unknown>>): Options.Publish => ({
  persistent: true,
  mandatory: true,
  headers: { ...headersWithout(properties.headers ?? {}, own), ...own },
  contentType: properties.contentType,
  contentEncoding: properties.contentEncoding,
  priority: properties.priority,
  correlationId: properties.correlationId,
  replyTo: properties.replyTo,
  messageId: properties.messageId,
  timestamp: properties.timestamp,
  type: properties.type,
  appId: properties.appId
})

const headersWithout = (headers: Readonly<Record<string, unknown>>, own: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(
    // Own keys only: a table named __proto__ has become a prototype, and the library writes what is inherited, too.
    Object.entries(headers).flatMap(([name, value]) =>
      brokers.test(name) || Object.hasOwn(own, name) ? [] : [[name, encodable(value)]]
    )
  )

/** A decoded value in a form that the library encodes to the same value. */
const encodable = (value: unknown): unknown => {
  if (typeof value === "number") return isEncodable(value) ? value : { "!": "double", value }
  // No question of prototypes: a table may have made a Buffer its own.
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value) || isTyped(value)) return value
  if (Array.isArray(value)) return value.map(encodable)
  const table = Object.fromEntries(Object.entries(value).map(([name, field]) => [name, encodable(field)]))
  // The library takes an own key "!" for the name of a type; inherited ones it writes like any other.
  return Object.hasOwn(table, "!") ? Object.create(table) : table
}

/**
 * Whether the library finds the right type for a number by itself. It takes what is large and no integer for an int64,
 * and fails, NaN and infinity likewise; and zero has no sign for it.
 */
const isEncodable = (value: number) =>
  Number.isInteger(value) ? value >= -(2 ** 63) && !Object.is(value, -0) : Math.abs(value) < 2 ** 50

/** Timestamps and decimals come as `{"!": type, value}`, and are written as they came. */
const isTyped = (value: object): boolean => {
  const { "!": type, value: inner, ...others }: Readonly<Record<string, unknown>> = { ...value }
  if (Object.keys(others).length > 0) return false
  if (type === "timestamp") return isWithin(inner, 2 ** 64)
  if (type !== "decimal" || typeof inner !== "object" || inner === null) return false
  const { places, digits }: Readonly<Record<string, unknown>> = { ...inner }
  return isWithin(places, 2 ** 8) && isWithin(digits, 2 ** 32)
}

const isWithin = (value: unknown, end: number) =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value < end
