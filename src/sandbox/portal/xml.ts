import { isFields, isList, keysOf, textOf, type Value } from "./value.ts"

const escape = (text: string): string => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)

const element = (name: string, value: Value): string => {
  const tag = /^[A-Za-z_][\w.-]*$/.test(name) ? name : "item"
  if (isList(value)) return `<${tag}>${value.map((item) => element("item", item)).join("")}</${tag}>`
  if (isFields(value)) {
    return `<${tag}>${keysOf(value)
      .map((key) => element(key, value[key] ?? null))
      .join("")}</${tag}>`
  }
  return `<${tag}>${escape(textOf(value))}</${tag}>`
}

/** An answer for the `.xml` suffix. The exact form is not documented; this one shows that it is not JSON. */
export const encodeXml = (value: Value): string => `<?xml version="1.0" encoding="utf-8"?>${element("response", value)}`
