import { expect, test } from "bun:test"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { remedyFor } from "../src/portal/remedies.ts"
import { type Part, partIn, parts } from "./doubt-table.ts"

for (const language of ["en", "ru"] as const)
  for (const part of Object.keys(parts) as ReadonlyArray<Part>)
    test(`the table of ${part} in ${language} is the code's (bun test/doubt-table.ts --write)`, () =>
      expect(partIn(part, language)).toBe(parts[part](language)))

/** The fenced block of JSON examples: `METHOD PARAMETERS -> remedy`. */
const examples = (file: string) => [
  ...readFileSync(fileURLToPath(new URL(`../docs/${file}`, import.meta.url)), "utf8").matchAll(
    /^(\S+) ([{[].*) -> (\w+)$/gm
  )
]

test("the examples of both documents come to what they say", () => {
  const said = examples("doubt.md").map(([line]) => line)
  expect(said.length).toBeGreaterThan(6)
  expect(examples("doubt.ru.md").map(([line]) => line)).toEqual(said)
  for (const [line, method = "", parameters = "", word] of examples("doubt.md")) {
    const remedy = remedyFor({ id: "id", method, parameters: JSON.parse(parameters), messageId: "m" }, [], false)
    expect([line, { LookUp: "lookup", Again: "again", Tell: "tell" }[remedy._tag]]).toEqual([line, word ?? ""])
  }
})
