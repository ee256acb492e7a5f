import { at, Entries, entriesOf, isPhpArray, isFields, isList, type Value } from "./value.ts"

const reference = /\$(result|error|total|next|time)(\S*)/gi
const step = /\[([^\]]+)\]/g

type Earlier = (name: string) => Value | undefined

// A path that leads nowhere stops at the last thing it found, and `isset` does not see what is null.
const follow = (from: Value | undefined, path: string): Value | undefined => {
  let found = from
  for (const [, key] of path.matchAll(step)) {
    const next = typeof found === "string" && /^\d+$/.test(key ?? "") ? found[Number(key)] : at(found, key ?? "")
    if (next === undefined || next === null) break
    found = next
  }
  return found
}

const substituteText = (text: string, earlier: Earlier): Value => {
  if (!text.includes("$")) return text
  let out = text
  for (const [whole, name, path] of text.matchAll(reference)) {
    if (path === undefined || path.search(step) < 0) continue
    const found = follow(earlier(name ?? ""), path)
    if (whole === text) return found ?? null
    if (typeof found === "string" || typeof found === "number") out = out.replaceAll(whole, () => String(found))
  }
  return out
}

/**
 * Puts earlier results of a batch into the parameters of a command. It happens after all decoding, so that nothing can
 * protect a `$result[...]` in a value: a value that is wholly the reference becomes what was found, an array too; inside
 * longer text only a string or a number is put in. The word is matched in any case, but found only in lower case.
 */
export const substitute = (value: Value, earlier: Earlier): Value => {
  if (typeof value === "string") return substituteText(value, earlier)
  if (!isPhpArray(value) || !holdsDollar(value)) return value
  const out = new Entries()
  for (const [key, item] of entriesOf(value)) out.set(key, substitute(item, earlier))
  return out.value()
}

const holdsDollar = (value: Value): boolean => {
  if (typeof value === "string") return value.includes("$")
  if (isList(value)) return value.some(holdsDollar)
  return isFields(value) && Object.values(value).some(holdsDollar)
}
