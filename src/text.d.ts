/** `import unit from "../packaging/b24rmq.service" with { type: "text" }`: the bundler puts the text into the binary. */
declare module "*.service" {
  const text: string
  export default text
}

declare module "*.css" {
  const text: string
  export default text
}

declare module "*.svg" {
  const text: string
  export default text
}
