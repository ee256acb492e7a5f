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

/** A method as the portal knows it: in lower case, without the suffix that chooses JSON. */
export const nameOf = (method: string): string => {
  const name = method.toLowerCase()
  return name.endsWith(".json") ? name.slice(0, -".json".length) : name
}

/** True if a pattern means the method of this name. A star at its end covers any ending. */
export const covers = (pattern: string, name: string): boolean => {
  const wanted = pattern.toLowerCase()
  return wanted.endsWith("*") ? name.startsWith(wanted.slice(0, -1)) : name === wanted
}

/** True if repeating the method changes nothing. `own`: further reading methods, a star at the end covers any ending. */
export const isRead = (method: string, own: ReadonlyArray<string>): boolean => {
  const name = nameOf(method)
  if (own.some((pattern) => covers(pattern, name))) return true
  if (writingNames.has(name)) return false
  if (readingNames.has(name)) return true
  const dot = name.indexOf(".")
  return dot >= 0 && documented.has(name.slice(0, dot)) && readingLastWords.has(name.slice(name.lastIndexOf(".") + 1))
}

const convergingLastWords = new Set(["update", "set", "delete"])

/** Take one date out of a series and make an event of its own of it (b24restdocs: calendar-event-update.md). */
const splitting = new Set(["calendar.event.update"])

/** A value without its ID is added to those that are there (b24restdocs: crm-contact-update.md, crm-item-update.md). */
const multiple = new Set(["PHONE", "EMAIL", "WEB", "IM", "LINK"])
const withMultiple = new Set(["crm.lead.update", "crm.contact.update", "crm.company.update"])

const entriesOf = (value: unknown): ReadonlyArray<readonly [string, unknown]> =>
  typeof value === "object" && value !== null ? Object.entries(value) : []

const fieldsIn = (parameters: unknown) =>
  entriesOf(parameters).flatMap(([key, value]) => (key.toLowerCase() === "fields" ? entriesOf(value) : []))

const addsValue = (name: string, parameters: unknown): boolean => {
  if (withMultiple.has(name)) {
    return fieldsIn(parameters).some(
      ([field, values]) =>
        multiple.has(field.toUpperCase()) &&
        (typeof values !== "object" ||
          entriesOf(values).some(([, value]) => !entriesOf(value).some(([key, id]) => key === "ID" && Number(id) > 0)))
    )
  }
  return (
    name === "crm.item.update" &&
    fieldsIn(parameters).some(
      ([field, values]) =>
        field === "fm" && (Array.isArray(values) || entriesOf(values).some(([key]) => !/^[1-9]\d*$/.test(key)))
    )
  )
}

/**
 * True if running the method twice leaves what running it once leaves. Robots, workflows and handlers of events run twice
 * all the same. Never true of somebody's own method.
 */
export const converges = (method: string, parameters: unknown): boolean => {
  const name = nameOf(method)
  const words = name.split(".")
  return (
    documented.has(words[0] ?? "") &&
    words.length > 1 &&
    convergingLastWords.has(words[words.length - 1] ?? "") &&
    !splitting.has(name) &&
    !addsValue(name, parameters)
  )
}

/**
 * The name under which a batch command calls a method, or undefined for one that does not go into a batch. A batch cuts
 * no suffix off, and refuses some methods (bitrix24/b24restdocs:settings/how-to-call-rest-api/batch.md). Files go alone:
 * alone their methods may answer with the file itself, and what they are given is long.
 */
export const commandName = (method: string): string | undefined => {
  const suffix = /\.(json|xml)$/i.exec(method)?.[0]
  if (suffix !== undefined && suffix !== ".json") return undefined
  const name = suffix === undefined ? method : method.slice(0, -suffix.length)
  return plainName.test(name) && !alone.test(name) ? name : undefined
}

const plainName = /^\w+(?:\.\w+)*$/
const alone = /^batch$|upload|download|attachrecord|(?<!pro)file/i

/**
 * What takes a number and its text for the same. All of it is called with numbers in the examples for the vendor's CRest
 * on the pages of bitrix24/b24restdocs:api-reference, and CRest sends every parameter as text
 * (bitrix-tools/crest:src/crest.php). Reads use numbers as ids, offsets and in filters; these writes put them into
 * columns that have a type. Left out is what keeps or returns values as they were given, such as options, layouts,
 * workflow parameters and product rows, and whatever nobody has looked at.
 */
const columnWrites = new Set(
  (
    "crm.lead crm.deal crm.contact crm.company crm.quote crm.product crm.activity crm.status crm.currency crm.address " +
    "crm.requisite crm.item crm.timeline.comment tasks.task department lists.element"
  )
    .split(" ")
    .flatMap((row) => [`${row}.add`, `${row}.update`, `${row}.delete`])
    .concat("im.notify.system.add", "im.notify.personal.add")
    .concat("telephony.externalcall.register", "telephony.externalcall.finish")
)

/** Looks for the text "0" where the number 0 is something else (bitrix-core-business:modules/rest, lib/api/user.php). */
const strictReads = new Set(["user.search"])

/** True if the method takes the text of a number for the number. Never true of somebody's own method. */
export const takesNumbersAsText = (method: string): boolean => {
  const name = method.toLowerCase()
  return columnWrites.has(name) || (isRead(name, []) && !strictReads.has(name))
}

/**
 * Parameters in which `1` and `0` say the same as true and false, in capitals and without the operator of a filter. Most
 * methods want `Y` and `N`, and of those some hold a true for `Y` and a `1` not. Source: bitrix-core-business:modules/rest,
 * lib/api/user.php and classes/general/rest_provider.php.
 */
const digitBooleans = new Map([
  ["user.get", new Set(["ACTIVE", "IS_ONLINE", "ADMIN_MODE"])],
  ["scope", new Set(["FULL"])],
  ["methods", new Set(["FULL"])]
])

/** True if the parameter `key` of the method takes `1` and `0` for true and false. */
export const takesDigitForBoolean = (method: string, key: string): boolean =>
  digitBooleans.get(method.toLowerCase())?.has(key.toUpperCase().replace(/^\W{1,2}/, "")) === true
