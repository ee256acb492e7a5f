import { expect, test } from "bun:test"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import packaged from "../package.json" with { type: "json" }

const repository = join(import.meta.dir, "..")

/** The rows of promises, each with what is named in its last cell. */
const experiments = (name: string) =>
  readFileSync(join(repository, "docs", name), "utf8")
    .split("\n")
    .filter((line) => /^\| \d+ \|/.test(line))
    .map((line) => [...(line.split("|").at(-2) ?? "").matchAll(/`([^`]+)`/g)].map(([, named]) => named ?? ""))

test("every promise names an experiment that is there, and the same one in both languages", () => {
  const rows = experiments("guarantees.md")
  expect(rows.length).toBeGreaterThan(15)
  expect(experiments("guarantees.ru.md")).toEqual(rows)
  for (const row of rows) {
    expect(row).not.toEqual([])
    for (const named of row) {
      const script = /^npm run (\S+)/.exec(named)?.[1]
      if (script !== undefined) expect(packaged.scripts).toHaveProperty(script)
      else expect([named, existsSync(join(repository, named))]).toEqual([named, true])
    }
  }
})
