/**
 * What the vendor's SDK makes of a portal: `bun sdk.ts https://HOST/rest/USER/SECRET/` prints it as JSON. A process of
 * its own, because only at its start Bun reads which authorities it trusts.
 */
import {
  type AjaxResult,
  ApiVersion,
  B24Hook,
  type CallBatchResult,
  ParamsFactory,
  type RestrictionParams
} from "@bitrix24/b24jssdk"

const url = process.argv[2] ?? ""

const client = (restrictionParams: Partial<RestrictionParams> = {}) => {
  const b24 = B24Hook.fromWebhookUrl(url, {
    restrictionParams: { ...ParamsFactory.getDefault(), ...restrictionParams }
  })
  b24.offClientSideWarning()
  return b24
}

/** What came, or the code and the status that it failed with. */
const told = async (asked: Promise<unknown>): Promise<unknown> => {
  try {
    return await asked
  } catch (error) {
    const { code, message, status } = error as { code?: unknown; message?: unknown; status?: unknown }
    return { code, message, status }
  }
}

const single = async (asked: Promise<AjaxResult<unknown>>) => {
  const answer = await asked
  return {
    isSuccess: answer.isSuccess,
    result: answer.getData()?.result,
    total: answer.getTotal(),
    isMore: answer.isMore(),
    errors: answer.getErrorMessages()
  }
}

/** The data of a batch whose answers are wanted as they are. */
const batch = async (asked: Promise<CallBatchResult<unknown>>) => {
  const answer = await asked
  return { isSuccess: answer.isSuccess, data: answer.getData(), errors: answer.getErrorMessagesByKey() }
}

const ids = (rows: ReadonlyArray<{ readonly ID?: unknown; readonly id?: unknown }> | null | undefined) =>
  (rows ?? []).map((row) => Number(row.ID ?? row.id))

const second = async () => {
  const { v2 } = client().actions
  const fields = { NAME: "Анна & Co <№1> 100%", PHONE: [{ VALUE: "+7 900 000-00-00", VALUE_TYPE: "MOBILE" }] }
  const contact = await single(v2.call.make({ method: "crm.contact.add", params: { fields } }))
  const page = await v2.call.make<ReadonlyArray<{ ID: string }>>({
    method: "crm.deal.list",
    params: { order: { ID: "ASC" }, select: ["ID"] }
  })
  const following = await page.getNext(client().getHttpClient(ApiVersion.v2))
  const pages = []
  for await (const rows of v2.fetchList.make<{ ID: string }>({ method: "crm.deal.list", params: { select: ["ID"] } })) {
    pages.push(rows.length)
  }
  const options = { isHaltOnError: false }
  return {
    contact,
    read: await single(v2.call.make({ method: "crm.contact.get", params: { id: Number(contact.result) } })),
    filtered: await single(
      v2.call.make({ method: "crm.deal.list", params: { filter: { "%TITLE": "deal 7" }, select: ["TITLE"] } })
    ),
    first: { total: page.getTotal(), isMore: page.isMore(), ids: ids(page.getData()?.result) },
    following: following === false ? following : ids(following.getData()?.result as ReadonlyArray<{ ID: string }>),
    all: ids(
      (await v2.callList.make<{ ID: string }>({ method: "crm.deal.list", params: { select: ["ID"] } })).getData()
    ),
    items: ids(
      (
        await v2.callList.make<{ id: number }>({
          method: "crm.item.list",
          params: { entityTypeId: 2, filter: { "<=id": 60 }, select: ["id"] },
          idKey: "id",
          customKeyForResult: "items"
        })
      ).getData()
    ),
    pages,
    listed: await batch(
      v2.batch.make({
        calls: [
          ["crm.deal.get", { id: 7 }],
          ["profile", {}]
        ],
        options
      })
    ),
    named: await batch(
      v2.batch.make({
        calls: {
          made: {
            method: "crm.deal.add",
            params: { fields: { TITLE: "made in a batch", COMMENTS: "a=b&c[d]=100 %+" } }
          },
          read: ["crm.deal.get", { id: "$result[made]" }],
          missing: { method: "crm.item.get", params: { entityTypeId: 2, id: 999_999 } },
          after: { method: "profile", params: {} }
        },
        options
      })
    ),
    halted: await told(
      batch(
        v2.batch.make({
          calls: {
            missing: ["crm.item.get", { entityTypeId: 2, id: 999_999 }],
            after: ["crm.deal.add", { fields: { TITLE: "never" } }]
          },
          options: { isHaltOnError: true }
        })
      )
    ),
    chunks: await v2.batchByChunk
      .make({
        calls: Array.from({ length: 120 }, (_, n) => ["crm.deal.get", { id: n + 1 }] as [string, { id: number }]),
        options
      })
      .then((answer) => ({ isSuccess: answer.isSuccess, ids: ids(answer.getData() as Array<{ ID: string }>) })),
    unknown: await told(single(v2.call.make({ method: "crm.nothing.here" }))),
    refused: await told(single(v2.call.make({ method: "crm.item.get", params: { entityTypeId: 2, id: 999_999 } })))
  }
}

const third = async () => {
  const { v3 } = client().actions
  const added = await single(v3.call.make({ method: "tasks.task.add", params: { fields: { title: "задача" } } }))
  return {
    added,
    read: await single(v3.call.make({ method: "tasks.task.get", params: { id: 3, select: ["id", "title"] } })),
    all: ids(
      (
        await v3.callList.make<{ id: number }>({
          method: "tasks.task.list",
          params: { select: ["id"] },
          customKeyForResult: "items"
        })
      ).getData()
    ),
    listed: await batch(
      v3.batch.make({
        calls: [
          { method: "tasks.task.get", params: { id: 1, select: ["id", "title"] } },
          { method: "tasks.task.get", params: { id: 2, select: ["id", "title"] } }
        ],
        options: { isHaltOnError: true }
      })
    ),
    named: await batch(
      v3.batch.make({
        calls: {
          one: { method: "tasks.task.get", params: { id: 4, select: ["title"] } },
          list: { method: "tasks.task.list", params: { select: ["id"], pagination: { limit: 2 } } }
        },
        options: { isHaltOnError: true }
      })
    ),
    failed: await told(
      batch(
        v3.batch.make({
          calls: [
            { method: "tasks.task.get", params: { id: 1 } },
            { method: "tasks.task.get", params: { id: 999_999 } }
          ],
          options: { isHaltOnError: true }
        })
      )
    ),
    invalid: await told(single(v3.call.make({ method: "tasks.task.add", params: { fields: {} } }))),
    missing: await told(single(v3.call.make({ method: "tasks.task.get", params: { id: 999_999 } }))),
    unknown: await told(single(v3.call.make({ method: "tasks.nothing.here" })))
  }
}

/** Keeps the pace of the vendor's own model, on numbers twice as small as the portal's burst. */
const paced = async () => {
  const b24 = client({ rateLimit: { burstLimit: 10, drainRate: 20, adaptiveEnabled: false } })
  const answers = await Promise.all(
    Array.from({ length: 60 }, () => single(b24.actions.v2.call.make({ method: "crm.deal.get", params: { id: 1 } })))
  )
  return {
    good: answers.filter(({ isSuccess }) => isSuccess).length,
    stats: b24.getHttpClient(ApiVersion.v2).getStats()
  }
}

/** Asks twice as fast as it may. */
const hasty = async () => {
  const b24 = client({ rateLimit: { burstLimit: 50, drainRate: 100, adaptiveEnabled: false } })
  const one = () => single(b24.actions.v2.call.make({ method: "crm.deal.get", params: { id: 1 } }))
  const answers = [await one(), await one(), await one()]
  return {
    good: answers.filter(({ isSuccess }) => isSuccess).length,
    stats: b24.getHttpClient(ApiVersion.v2).getStats()
  }
}

/** Reads from the answers how long its methods have worked. */
const worked = async () => {
  const b24 = client()
  const calls = [
    ["crm.deal.list", {}],
    ["crm.deal.get", { id: 1 }]
  ] as [string, Record<string, number>][]
  await b24.actions.v2.call.make({ method: "crm.deal.list" })
  await b24.actions.v2.batch.make({ calls })
  return b24.getHttpClient(ApiVersion.v2).getStats().operatingStats
}

const parts = { second, third, paced, hasty, worked }
const part = parts[process.argv[3] as keyof typeof parts]
process.stdout.write(JSON.stringify(await part()))
