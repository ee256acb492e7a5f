import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { describeSettings } from "../src/settings.ts"

/** The READMEs that print the table of settings, each in its language. */
export const readmes = { en: "README.md", ru: "README.ru.md" } as const

const titles = {
  en: ["Setting", "Default", "Meaning"],
  ru: ["Настройка", "По умолчанию", "Смысл"]
} as const

const words = { en: { required: "required", none: "none" }, ru: { required: "обязательна", none: "нет" } } as const

const line = (cells: ReadonlyArray<string>) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`

/** The settings as a Markdown table. */
export const settingsTable = (language: keyof typeof readmes) => {
  const { required, none } = words[language]
  return [
    line(titles[language]),
    line(["---", "---", "---"]),
    ...describeSettings(language).map(({ name, standard, unit, meaning }) => {
      const value =
        standard === undefined ? required : standard === "" ? none : `\`${standard}\`${unit ? ` ${unit}` : ""}`
      return line([`\`${name}\``, value, meaning])
    })
  ].join("\n")
}

const marks = /(?<=<!-- settings -->\n)[^]*?(?=\n<!-- \/settings -->)/

const pathOf = (language: keyof typeof readmes) => fileURLToPath(new URL(`../${readmes[language]}`, import.meta.url))

/** What stands between the marks `<!-- settings -->` and `<!-- /settings -->` of a README; undefined without them. */
export const tableIn = (language: keyof typeof readmes) => marks.exec(readFileSync(pathOf(language), "utf8"))?.[0]

if (import.meta.main) {
  if (process.argv[2] !== "--write") {
    console.error("usage: bun test/settings-table.ts --write")
    process.exit(2)
  }
  for (const language of ["en", "ru"] as const) {
    const path = pathOf(language)
    const text = readFileSync(path, "utf8")
    if (!marks.test(text)) {
      console.error(`${readmes[language]} has no <!-- settings --> and <!-- /settings --> on lines of their own`)
      process.exit(1)
    }
    writeFileSync(
      path,
      text.replace(marks, () => settingsTable(language))
    )
  }
}
