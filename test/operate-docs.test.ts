import { expect, test } from "bun:test"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { causeCodes } from "../src/watch/cause.ts"

test("docs/operate lists each cause in its precedence, in both languages", () => {
  for (const file of ["operate.md", "operate.ru.md"]) {
    const text = readFileSync(join(import.meta.dir, "../docs", file), "utf8")
    const rows = [...text.matchAll(/^\| `([a-z]+(?:-[a-z]+)*)` \| .+ \| .*\|$/gm)].map(([, code]) => code)
    expect(rows).toEqual([...causeCodes])
  }
})
