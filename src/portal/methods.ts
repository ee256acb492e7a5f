/**
 * What is known of methods, as data. A read may be repeated when nobody knows whether it ran; a write may not. Names
 * are compared in lower case, as the portal does.
 */

/** First words of documented methods (bitrix24/b24restdocs:api-reference). Any other name is somebody's own method. */
const documented = new Set(
  (
    "access ai app biconnector bizproc booking calendar call catalog crm department disk documentgenerator entity event " +
    "feature humanresources im imbot imconnector imopenlines landing lists log mail mailservice main messageservice " +
    "method note placement profile rpa sale salescenter scope server sign socialnetwork sonet_group task tasks " +
    "telephony timeman types user userconsent userfieldconfig userfieldtype vote voximplant"
  ).split(" ")
)

const readingLastWords = new Set(
  (
    "fields list get getlist getfields gettypes getchildren getall getbyid getfieldsbyfilter isactionallowed search " +
    "count tail types"
  ).split(" ")
)

const readingNames = new Set([
  "methods",
  "profile",
  "scope",
  "server.time",
  "user.current",
  "app.info",
  "crm.duplicate.findbycomm"
])

/** Read by name, and yet they change something. */
const writingNames = new Set([
  // Deletes what it returns, unless told not to (bitrix24/b24restdocs:api-reference/events/event-offline-get.md).
  "event.offline.get"
])

const covers = (pattern: string, name: string) =>
  pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern

/** True if repeating the method changes nothing. `own`: further reading methods, a star at the end covers any ending. */
export const isRead = (method: string, own: ReadonlyArray<string>): boolean => {
  const name = method.toLowerCase().replace(/\.json$/, "")
  if (own.some((pattern) => covers(pattern.toLowerCase(), name))) return true
  if (writingNames.has(name)) return false
  if (readingNames.has(name)) return true
  const words = name.split(".")
  return documented.has(words[0] ?? "") && words.length > 1 && readingLastWords.has(words[words.length - 1] ?? "")
}
