/** Numbers and lengths of time as people read them. Pure, and all that the page in the browser shares with the bridge. */

export type Language = "en" | "ru"

// Made once: to make one costs more than all the rest of a status.
const numbers = {
  en: new Intl.NumberFormat("en", { maximumFractionDigits: 0 }),
  ru: new Intl.NumberFormat("ru", { maximumFractionDigits: 0 })
}

export const whole = (value: number, language: Language) => numbers[language].format(value).replaceAll("\u00a0", " ")

/** A length of time as people say it. */
export const lengthOf = (seconds: number, language: Language) => {
  const words = { en: ["s", "min", "h", "d"], ru: ["с", "мин", "ч", "дн."] }[language]
  const [s, min, h, d] = words
  if (seconds < 100) return `${Math.max(1, Math.round(seconds))} ${s}`
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} ${min}`
  if (seconds < 48 * 3_600) return `${Math.round(seconds / 3_600)} ${h}`
  return `${Math.round(seconds / 86_400)} ${d}`
}
