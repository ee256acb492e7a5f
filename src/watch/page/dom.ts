/** Elements as values. Text only ever becomes text, so that nothing in a status can become markup. */

export type Child = Element | string | undefined

type Attributes = Readonly<Record<string, string | number | undefined>>

export const h = (tag: string, attributes: Attributes = {}, ...children: ReadonlyArray<Child>): Element => {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name, String(value))
  }
  element.append(...children.filter((child) => child !== undefined))
  return element
}

/** Makes `old` what `fresh` is, and leaves alone what is so already: a selection and the place in a list stay. */
const become = (old: ChildNode, fresh: ChildNode): void => {
  if (old.nodeName !== fresh.nodeName || old.nodeType !== fresh.nodeType) return old.replaceWith(fresh)
  if (!(old instanceof Element) || !(fresh instanceof Element)) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue
    return
  }
  for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name)
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value)
  show(old, [...fresh.childNodes])
}

/** Shows these, and nothing else, inside of `parent`. */
export const show = (parent: Element, children: ReadonlyArray<ChildNode>): void => {
  const there = [...parent.childNodes]
  children.forEach((child, n) => {
    const old = there[n]
    if (old === undefined) parent.append(child)
    else become(old, child)
  })
  for (const old of there.slice(children.length)) old.remove()
}

export const the = (id: string): Element => {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`the page has no #${id}`)
  return element
}
