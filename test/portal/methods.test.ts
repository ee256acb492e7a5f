import { expect, test } from "bun:test"
import fc from "fast-check"
import { isRead } from "../../src/portal/methods.ts"

/** Methods from the vendor's reference (bitrix24/b24restdocs:api-reference), and what repeating them does. */
const reads = `
  crm.lead.get crm.lead.list crm.lead.fields crm.deal.get crm.deal.list crm.deal.fields crm.deal.productrows.get
  crm.contact.list crm.company.get crm.item.get crm.item.list crm.item.fields crm.item.productrow.list crm.type.list
  crm.status.list crm.status.entity.types crm.category.list crm.activity.get crm.activity.list
  crm.timeline.comment.list crm.duplicate.findbycomm crm.currency.list crm.stagehistory.list
  crm.requisite.preset.countries.list tasks.task.get tasks.task.list tasks.task.getFields task.commentitem.getlist
  task.checklistitem.getlist task.elapseditem.getlist user.get user.current user.search user.fields department.get
  lists.get lists.element.get lists.field.get lists.field.type.get lists.section.get disk.storage.getlist
  disk.folder.getchildren disk.file.get im.chat.get im.user.get im.dialog.messages.search imopenlines.config.list.get
  bizproc.workflow.template.list bizproc.task.list bizproc.robot.list telephony.externalLine.get voximplant.statistic.get
  sale.order.get sale.order.list catalog.product.list catalog.product.getFieldsByFilter calendar.event.get
  calendar.section.get event.get entity.item.get scope methods method.get feature.get profile server.time app.info
`

const writes = `
  crm.lead.add crm.lead.update crm.lead.delete crm.deal.add crm.deal.update crm.deal.delete crm.deal.productrows.set
  crm.contact.add crm.contact.company.add crm.company.update crm.item.add crm.item.update crm.item.delete
  crm.item.productrow.set crm.item.batchImport crm.activity.add crm.activity.complete crm.timeline.comment.add
  crm.timeline.note.save crm.automation.trigger.execute tasks.task.add tasks.task.update tasks.task.delete
  tasks.task.complete tasks.task.start tasks.task.delegate task.commentitem.add task.elapseditem.add user.add
  user.update department.add lists.element.add lists.element.update lists.element.delete im.message.add
  im.notify.system.add im.chat.add im.chat.leave imbot.register imbot.message.add imopenlines.operator.answer
  bizproc.workflow.start bizproc.workflow.terminate bizproc.event.send bizproc.task.complete bizproc.activity.log
  telephony.externalcall.register telephony.externalcall.finish telephony.call.attachTranscription disk.folder.uploadfile
  disk.file.moveto disk.folder.addsubfolder sale.order.add catalog.product.add calendar.event.add event.bind
  event.unbind event.offline.clear placement.bind log.blogpost.add entity.item.add timeman.open userfieldtype.add
`

const namesIn = (text: string) => text.trim().split(/\s+/)

test("documented methods", () => {
  const wrong = [
    ...namesIn(reads).filter((name) => !isRead(name, [])),
    ...namesIn(writes).filter((name) => isRead(name, []))
  ]
  expect(wrong).toEqual([])
  expect(namesIn(reads).length + namesIn(writes).length).toBeGreaterThan(100)
})

test("what reads by name and writes all the same", () => {
  expect(isRead("event.offline.get", [])).toBe(false)
  expect(isRead("Event.Offline.GET.json", [])).toBe(false)
})

test("a batch may hold anything, and names of nobody's reference may do anything", () => {
  for (const name of [
    "batch",
    "erp.order.list",
    "mycompany.get",
    "get",
    "list",
    "fields",
    "crm",
    "crm.",
    ".list",
    "xcrm.deal.list"
  ]) {
    expect(isRead(name, [])).toBe(false)
  }
})

test("names are compared as the portal does: in lower case and without .json", () => {
  expect(isRead("CRM.Deal.LIST", [])).toBe(true)
  expect(isRead("crm.deal.list.json", [])).toBe(true)
  expect(isRead("crm.deal.add.json", [])).toBe(false)
  expect(isRead("server.time.json", [])).toBe(true)
  expect(isRead("crm.deal.list.json.json", [])).toBe(false)
  expect(isRead("crm.list.json.add", [])).toBe(false)
  const names = fc.constantFrom(...namesIn(reads), ...namesIn(writes), "event.offline.get", "erp.order.list")
  fc.assert(
    fc.property(names, fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }), fc.boolean(), (name, upper, json) => {
      const spelt = [...name].map((letter, index) => (upper[index] ? letter.toUpperCase() : letter)).join("")
      expect(isRead(json ? `${spelt}.json` : spelt, [])).toBe(isRead(name, []))
    })
  )
})

test("self-written methods are reads where the settings say so", () => {
  const own = ["erp.order.find", "ERP.Report.*", "event.offline.get"]
  for (const name of [
    "erp.order.find",
    "Erp.Order.Find.json",
    "erp.report.sales",
    "erp.report.",
    "event.offline.get"
  ]) {
    expect(isRead(name, own)).toBe(true)
  }
  for (const name of ["erp.order.find2", "erp.order", "erp.report", "erp.reporting.x", "crm.deal.add"]) {
    expect(isRead(name, own)).toBe(false)
  }
  expect(isRead("crm.deal.add", ["*"])).toBe(true)
})
