/** A request of the demo, as a producer would put it into the queue. */
export interface Sample {
  readonly method: string
  readonly body: string
}

const company = ["Ромашка", "Северсталь", "Ozon", "Вектор", "Лента"]

/** Fixed shares of what companies really send, and of what goes wrong: one in fifty is broken on purpose. */
const kinds: ReadonlyArray<(n: number) => Sample> = [
  (n) => ({ method: "crm.deal.list", body: `{"filter":{">ID":${n}},"select":["ID","TITLE"],"start":-1}` }),
  (n) => ({
    method: "crm.deal.add",
    body: `{"fields":{"TITLE":"Счёт ${n}","OPPORTUNITY":${n * 10},"CURRENCY_ID":"RUB"}}`
  }),
  () => ({ method: "crm.deal.list", body: `{"order":{"ID":"DESC"}}` }),
  (n) => ({
    method: "crm.contact.add",
    body: `{"fields":{"NAME":"Ольга","COMPANY_TITLE":"${company[n % company.length]}","PHONE":[{"VALUE":"+7999${String(n).padStart(7, "0")}","VALUE_TYPE":"WORK"}]}}`
  }),
  () => ({ method: "user.get", body: `{"FILTER":{"ACTIVE":true}}` }),
  (n) => ({ method: "crm.lead.add", body: `{"fields":{"TITLE":"Заявка ${n}"}}` }),
  (n) => ({ method: "tasks.task.add", body: `{"fields":{"TITLE":"Позвонить по счёту ${n}","RESPONSIBLE_ID":1}}` }),
  () => ({ method: "batch", body: `{"halt":0,"cmd":{"deals":"crm.deal.list?start=-1","time":"server.time"}}` }),
  () => ({ method: "crm.deal.list", body: "" }),
  (n) => (n % 5 === 0 ? broken(n) : { method: "crm.deal.get", body: `{"id":${n + 1_000_000}}` })
]

const broken = (n: number): Sample =>
  n % 2 === 0
    ? { method: "crm.deal.add", body: `{"fields":{"TITLE":"без конца` }
    : { method: "no.such.method", body: "{}" }

/** Only such as change nothing: for a portal that is not simulated. */
const reading: ReadonlyArray<Sample> = [
  { method: "server.time", body: "" },
  { method: "profile", body: "{}" },
  { method: "crm.deal.list", body: `{"select":["ID"],"start":-1}` }
]

/** The requests of a demo, the same each time. */
export const samples = (count: number, mayWrite: boolean): ReadonlyArray<Sample> =>
  Array.from({ length: count }, (_, n) =>
    mayWrite
      ? (kinds[n % kinds.length] ?? broken)(Math.floor(n / kinds.length))
      : (reading[n % reading.length] ?? { method: "server.time", body: "" })
  )
