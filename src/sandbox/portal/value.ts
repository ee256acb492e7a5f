/**
 * A value as PHP holds it after `json_decode` or `parse_str`.
 *
 * PHP has one kind of array. Here it is a JavaScript array when its keys are 0..n-1 in order (what `json_encode` writes
 * as a list) and an object otherwise. An empty one is `[]`, also where the request said `{}`: PHP cannot tell them apart.
 */
export type Value = null | boolean | number | bigint | string | Raw | ReadonlyArray<Value> | Fields

/** A PHP array that is not a list. */
export interface Fields {
  readonly [key: string]: Value
}

/** JSON text that is put into an answer as it is, so that an echo returns the very bytes it was sent. */
export class Raw {
  readonly json: string
  constructor(json: string) {
    this.json = json
  }
}

// JavaScript moves integer keys to the front; PHP keeps the order of arrival, and a batch executes in that order.
const order: unique symbol = Symbol("order")

const integerKey = /^(?:0|[1-9]\d{0,9})$/

/** Collects keys and values in order of arrival and becomes the right kind of PHP array. */
export class Entries {
  private readonly keys: Array<string> = []
  private readonly fields: Record<string, Value> = {}
  private list = true
  private numbered = false

  set(key: string, value: Value): void {
    if (!Object.hasOwn(this.fields, key)) {
      if (this.list && key !== String(this.keys.length)) this.list = false
      if (!this.numbered && integerKey.test(key)) this.numbered = true
      this.keys.push(key)
    }
    if (key === "__proto__") {
      Object.defineProperty(this.fields, key, { value, enumerable: true, configurable: true, writable: true })
    } else {
      this.fields[key] = value
    }
  }

  get(key: string): Value | undefined {
    return Object.hasOwn(this.fields, key) ? this.fields[key] : undefined
  }

  value(): ReadonlyArray<Value> | Fields {
    if (this.list) return this.keys.map((key) => this.fields[key] ?? null)
    if (this.numbered) Object.defineProperty(this.fields, order, { value: this.keys })
    return this.fields
  }
}

export const isList = (value: Value | undefined): value is ReadonlyArray<Value> => Array.isArray(value)

export const isFields = (value: Value | undefined): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Raw)

/** What PHP's `is_array` says. */
export const isPhpArray = (value: Value | undefined): value is ReadonlyArray<Value> | Fields =>
  isList(value) || isFields(value)

/** The keys of a PHP array in PHP's order. */
export const keysOf = (value: ReadonlyArray<Value> | Fields): ReadonlyArray<string> => {
  if (isList(value)) return value.map((_, index) => String(index))
  const kept = (value as { readonly [order]?: ReadonlyArray<string> })[order]
  return kept ?? Object.keys(value)
}

/** One element, or `undefined` where PHP's `isset` on the key would be false because there is no such key. */
export const at = (value: Value | undefined, key: string | number): Value | undefined => {
  if (isList(value)) return typeof key === "number" || integerKey.test(key) ? value[Number(key)] : undefined
  return isFields(value) && Object.hasOwn(value, key) ? value[key] : undefined
}

/** A parameter by name, in the spelling given or in capitals: old methods fold the case of their parameters. */
export const param = (params: Value, name: string): Value | undefined =>
  at(params, name) ?? at(params, name.toUpperCase()) ?? at(params, name.toLowerCase())

/** As PHP turns a scalar into text. */
export const textOf = (value: Value | undefined): string => {
  if (value === undefined || value === null || value === false) return ""
  if (value === true) return "1"
  return typeof value === "object" ? "" : String(value)
}

/** As PHP's `intval`: the leading digits, 0 where there are none. */
export const integerOf = (value: Value | undefined): number => {
  if (typeof value === "number") return Math.trunc(value)
  const digits = /^\s*[+-]?\d+/.exec(textOf(value))
  return digits === null ? 0 : Number(digits[0])
}

/** As PHP's cast to bool. */
export const isTrue = (value: Value | undefined): boolean => {
  if (isPhpArray(value)) return keysOf(value).length > 0
  return value !== undefined && value !== null && value !== false && value !== 0 && value !== "" && value !== "0"
}

/** Keys and elements of a PHP array in PHP's order; nothing for anything else. */
export const entriesOf = (value: Value | undefined): ReadonlyArray<readonly [string, Value]> =>
  isPhpArray(value) ? keysOf(value).map((key) => [key, at(value, key) ?? null] as const) : []
