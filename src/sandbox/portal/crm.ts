import { Table } from "./table.ts"
import type { Fields } from "./value.ts"

/** A kind of CRM entity, known by a number everywhere and to the older methods by a word. */
export interface EntityKind {
  readonly id: number
  readonly name: string
  /** The letter by which product rows name their owner. */
  readonly letter: string
  readonly smart: boolean
  readonly defaults: Fields
}

const classic: ReadonlyArray<EntityKind> = [
  { id: 1, name: "lead", letter: "L", smart: false, defaults: { STATUS_ID: "NEW", OPENED: "N" } },
  {
    id: 2,
    name: "deal",
    letter: "D",
    smart: false,
    defaults: { STAGE_ID: "NEW", CATEGORY_ID: 0, OPENED: "N", CLOSED: "N", OPPORTUNITY: "0.00", CURRENCY_ID: "RUB" }
  },
  { id: 3, name: "contact", letter: "C", smart: false, defaults: { OPENED: "N", TYPE_ID: "CLIENT" } },
  { id: 4, name: "company", letter: "CO", smart: false, defaults: { OPENED: "N", COMPANY_TYPE: "CUSTOMER" } }
]

const smartProcess = (id: number): EntityKind => ({
  id,
  name: `dynamic_${id}`,
  letter: `T${id.toString(16)}`,
  smart: true,
  defaults: { XML_ID: "", TITLE: "", STAGE_ID: `DT${id}_9:NEW`, OPENED: "N", CATEGORY_ID: 9 }
})

/** The tables of a portal, all in memory. */
export class Crm {
  private readonly keep: number
  private readonly kinds: Map<number, EntityKind>
  private readonly tables = new Map<string, Table>()
  private readonly sequences = new Map<string, number>()

  constructor(keep: number, smartProcesses: ReadonlyArray<number>) {
    this.keep = keep
    const kinds = [...classic, ...smartProcesses.map(smartProcess)]
    this.kinds = new Map(kinds.map((kind) => [kind.id, kind]))
  }

  kind(id: number): EntityKind | undefined {
    return this.kinds.get(id)
  }

  kindByLetter(letter: string): EntityKind | undefined {
    for (const kind of this.kinds.values()) if (kind.letter === letter.toUpperCase()) return kind
    return undefined
  }

  /** The rows behind a word such as `deal`, `task` or `activity`, or behind the number of an entity type. */
  table(name: string | number): Table {
    const word = typeof name === "string" ? name : (this.kinds.get(name)?.name ?? String(name))
    let table = this.tables.get(word)
    if (table === undefined) this.tables.set(word, (table = new Table(this.keep)))
    return table
  }

  /** The next number of a sequence, for things that need an id but no table. */
  next(sequence: string): number {
    const next = (this.sequences.get(sequence) ?? 0) + 1
    this.sequences.set(sequence, next)
    return next
  }

  clear(): void {
    this.tables.clear()
    this.sequences.clear()
  }
}

export const classicKinds = classic
