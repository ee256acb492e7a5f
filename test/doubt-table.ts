import { Duration } from "effect"
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { type Finder, finders } from "../src/portal/finders.ts"
import { repeats } from "../src/portal/remedies.ts"

/** The documents that print the table of doubts, each in its language. */
export const documents = { en: "docs/doubt.md", ru: "docs/doubt.ru.md" } as const
type Language = keyof typeof documents

const words = {
  en: {
    titles: ["Method", "Its name", "Looked for with", "Told from others by", "`B24RMQ_STAMP`", "Pages"],
    unique: "the portal has no second",
    types: "entity type",
    above: "and above",
    beside: "with",
    repeats: ["Method", "With the parameters", "Until", "Page"],
    minutes: "minutes after the first time",
    always: "always"
  },
  ru: {
    titles: ["Метод", "Его имя", "Чем ищется", "Чем отличается от других", "`B24RMQ_STAMP`", "Страницы"],
    unique: "второго на портале не бывает",
    types: "тип сущности",
    above: "и больше",
    beside: "вместе с",
    repeats: ["Метод", "С параметрами", "До", "Страница"],
    minutes: "минут после первого раза",
    always: "всегда"
  }
} as const

const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
const table = (titles: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) =>
  [line(titles), line(titles.map(() => "---")), ...rows.map(line)].join("\n")

const code = (text: string) => `\`${text}\``

const typesIn = (types: NonNullable<Finder["types"]>, language: Language) =>
  types
    .map(([first, last]) => {
      if (first === last) return String(first)
      return last > 10_000 ? `${first} ${words[language].above}` : `${first}-${last}`
    })
    .join(", ")

/** What is looked up, as a Markdown table. */
const findersTable = (language: Language) => {
  const { titles, unique, types, beside } = words[language]
  return table(
    titles,
    finders.map((finder) => [
      code(finder.method) + (finder.types === undefined ? "" : ` (${types} ${typesIn(finder.types, language)})`),
      finder.names.map(code).join(", ") + (finder.beside === undefined ? "" : ` (${beside} ${code(finder.beside)})`),
      code(finder.list),
      finder.made === undefined ? unique : code(finder.made),
      finder.stamp === undefined ? "" : code(finder.stamp),
      finder.source
    ])
  )
}

/** What is sent again because of a parameter, as a Markdown table. */
const repeatsTable = (language: Language) => {
  const { repeats: titles, minutes, always } = words[language]
  return table(
    titles,
    repeats.map(({ method, parameters, within, source }) => [
      code(method),
      parameters.map(code).join(", "),
      within === undefined ? always : `${Duration.toMinutes(within)} ${minutes}`,
      source
    ])
  )
}

export const parts = { finders: findersTable, repeats: repeatsTable } as const
export type Part = keyof typeof parts

const marks = (part: Part) => new RegExp(`(?<=<!-- ${part} -->\\n)[^]*?(?=\\n<!-- /${part} -->)`)

const pathOf = (language: Language) => fileURLToPath(new URL(`../${documents[language]}`, import.meta.url))

/** What stands between the marks of a document, `<!-- finders -->` and `<!-- /finders -->`; undefined without them. */
export const partIn = (part: Part, language: Language) => marks(part).exec(readFileSync(pathOf(language), "utf8"))?.[0]

if (import.meta.main) {
  if (process.argv[2] !== "--write") {
    console.error("usage: bun test/doubt-table.ts --write")
    process.exit(2)
  }
  for (const language of ["en", "ru"] as const) {
    let text = readFileSync(pathOf(language), "utf8")
    for (const part of ["finders", "repeats"] as const) {
      if (!marks(part).test(text)) {
        console.error(`${documents[language]} has no <!-- ${part} --> and <!-- /${part} --> on lines of their own`)
        process.exit(1)
      }
      text = text.replace(marks(part), () => parts[part](language))
    }
    writeFileSync(pathOf(language), text)
  }
}
