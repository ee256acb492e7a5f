/**
 * The table of creators whose work can be found again, by a name that the request gave it.
 */

/** How one creator's work is found; a row of the table in docs/doubt.md. */
export interface Finder {
  readonly method: string
  /** The entity types that it is for, where the method has an `entityTypeId`: first and last. */
  readonly types?: ReadonlyArray<readonly [first: number, last: number]>
  /** Where the names stand in the request. */
  readonly within: "fields" | "top" | "either"
  /** Fields that together name it. All of them have to be given. */
  readonly names: ReadonlyArray<string>
  /** Belongs to the name where it is given. Where it is not, it has to be empty in the row. */
  readonly beside?: string
  /** How the rows spell a name, where it is another way. */
  readonly seen?: Readonly<Record<string, string>>
  readonly list: string
  /** What the list is asked: names in its filter with or without `=`, or as parameters of their own. */
  readonly asks: "equal" | "filter" | "parameters"
  /** Parameters of the request that the list needs, too. */
  readonly shared: ReadonlyArray<string>
  /** Further parameters of the list. */
  readonly extra: Readonly<Record<string, unknown>>
  /** Where the rows stand in the result: the result itself, under a key, or wherever a list is found. */
  readonly rows: { readonly under: string } | "result" | "anywhere"
  readonly id: "ID" | "id" | "either"
  /** When the row was made, ISO 8601; undefined where the portal lets no second one have the name. */
  readonly made: string | undefined
  /** What the creator answers: the id, or the row under a key. */
  readonly answers: { readonly under: string } | "id"
  /** The name that `B24RMQ_STAMP` gives where there is none. */
  readonly stamp?: string
  /** Pages of bitrix24/b24restdocs:api-reference. */
  readonly source: string
}

/** `start: -1` counts nothing (bitrix24/b24restdocs:settings/performance/huge-data.md). The newest come first. */
const newest = (select: ReadonlyArray<string>) => ({ select, order: { ID: "DESC" }, start: -1 })

const classic = (kind: string, folder: string): Finder => ({
  method: `crm.${kind}.add`,
  within: "fields",
  names: ["ORIGIN_ID"],
  beside: "ORIGINATOR_ID",
  list: `crm.${kind}.list`,
  asks: "equal",
  shared: [],
  extra: newest(["ID", "ORIGINATOR_ID", "ORIGIN_ID", "DATE_CREATE"]),
  rows: "result",
  id: "ID",
  made: "DATE_CREATE",
  answers: "id",
  stamp: "ORIGIN_ID",
  source: `crm/${folder}/crm-${kind}-add.md, crm-${kind}-list.md`
})

const item = (types: Finder["types"], names: Pick<Finder, "names" | "beside" | "stamp">): Finder => ({
  method: "crm.item.add",
  ...(types === undefined ? {} : { types }),
  within: "fields",
  ...names,
  list: "crm.item.list",
  asks: "equal",
  // The second one chooses how own fields are spelled, in the answer of either method.
  shared: ["entityTypeId", "useOriginalUfNames"],
  extra: { select: ["*"], order: { id: "DESC" }, start: -1 },
  rows: { under: "items" },
  id: "id",
  made: "createdTime",
  answers: { under: "item" },
  source: "crm/universal/crm-item-add.md, crm-item-list.md"
})

export const finders: ReadonlyArray<Finder> = [
  classic("lead", "leads"),
  classic("deal", "deals"),
  classic("contact", "contacts"),
  classic("company", "companies"),
  item([[1, 4]], { names: ["originId"], beside: "originatorId", stamp: "originId" }),
  // Invoices, and the smart processes of a portal (bitrix24/b24restdocs:api-reference/crm/data-types.md).
  item(
    [
      [31, 31],
      [128, 1_000_000]
    ],
    { names: ["xmlId"], stamp: "xmlId" }
  ),
  {
    method: "crm.activity.add",
    within: "fields",
    names: ["ORIGIN_ID"],
    beside: "ORIGINATOR_ID",
    list: "crm.activity.list",
    asks: "equal",
    shared: [],
    extra: newest(["ID", "ORIGINATOR_ID", "ORIGIN_ID", "CREATED"]),
    rows: "result",
    id: "ID",
    made: "CREATED",
    answers: "id",
    stamp: "ORIGIN_ID",
    source: "crm/timeline/activities/activity-base/crm-activity-add.md, crm-activity-list.md, crm-activity-fields.md"
  },
  {
    method: "crm.requisite.add",
    within: "fields",
    names: ["XML_ID"],
    list: "crm.requisite.list",
    asks: "equal",
    shared: [],
    extra: newest(["ID", "XML_ID", "DATE_CREATE"]),
    rows: "result",
    id: "ID",
    made: "DATE_CREATE",
    answers: "id",
    source: "crm/requisites/universal/crm-requisite-add.md, crm-requisite-list.md, index.md"
  },
  {
    method: "crm.requisite.bankdetail.add",
    within: "fields",
    names: ["XML_ID"],
    list: "crm.requisite.bankdetail.list",
    asks: "equal",
    shared: [],
    extra: newest(["ID", "XML_ID", "DATE_CREATE"]),
    rows: "result",
    id: "ID",
    made: "DATE_CREATE",
    answers: "id",
    source:
      "crm/requisites/bank-detail/crm-requisite-bank-detail-add.md, crm-requisite-bank-detail-list.md, crm-requisite-bank-detail-fields.md"
  },
  {
    // A second one is refused: "The specified status ID already exists."
    method: "crm.status.add",
    within: "fields",
    names: ["ENTITY_ID", "STATUS_ID"],
    list: "crm.status.list",
    asks: "filter",
    shared: [],
    extra: {},
    rows: "result",
    id: "ID",
    made: undefined,
    answers: "id",
    source: "crm/status/crm-status-add.md, crm-status-list.md"
  },
  {
    // A second one is refused: ERROR_ELEMENT_ALREADY_EXISTS.
    method: "lists.element.add",
    within: "top",
    names: ["ELEMENT_CODE"],
    seen: { ELEMENT_CODE: "CODE" },
    list: "lists.element.get",
    asks: "parameters",
    shared: ["IBLOCK_TYPE_ID", "IBLOCK_ID", "IBLOCK_CODE"],
    extra: {},
    rows: "result",
    id: "ID",
    made: undefined,
    answers: "id",
    source: "lists/elements/lists-element-add.md, lists-element-get.md"
  },
  {
    // A second one is refused: 200600000000.
    method: "catalog.measure.add",
    within: "fields",
    names: ["code"],
    list: "catalog.measure.list",
    asks: "filter",
    shared: [],
    extra: { select: ["id", "code", "isDefault", "measureTitle", "symbol", "symbolIntl", "symbolLetterIntl"] },
    rows: { under: "measures" },
    id: "id",
    made: undefined,
    answers: { under: "measure" },
    source: "catalog/measure/catalog-measure-add.md, catalog-measure-list.md"
  }
]

/** The finder that a user's entry `lookup:LIST:FIELD` means. Whether names are unique there, the user knows. */
export const ownFinder = (entry: { readonly list: string; readonly fields: ReadonlyArray<string> }): Finder => ({
  method: "",
  within: "either",
  names: entry.fields,
  list: entry.list,
  asks: "filter",
  shared: ["entityTypeId"],
  extra: {},
  rows: "anywhere",
  id: "either",
  made: undefined,
  answers: "id",
  source: ""
})
