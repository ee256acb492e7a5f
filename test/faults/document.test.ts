import { expect, test } from "bun:test"
import { documentOf, readDocument, readResults } from "../../bench/faults/document.ts"

test("docs/faults.md shows what the bench has found, as the bench would write it now", () =>
  expect(readDocument()).toBe(documentOf(readResults())))
