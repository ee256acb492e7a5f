import { Effect } from "effect"
import { type HttpRouter, HttpServerResponse } from "effect/http"
import plotStyle from "uplot/dist/uPlot.min.css" with { type: "text" }
import { bundle } from "./bundle.ts" with { type: "macro" }
import icon from "./page/icon.svg" with { type: "text" }
import html from "./page/index.html" with { type: "text" }
import style from "./page/page.css" with { type: "text" }

/** The page in files of its own, so that its policy needs no exception: nothing inline, nothing from elsewhere. */
const files = [
  ["/", html as unknown as string, "text/html; charset=utf-8"],
  ["/page.js", bundle("page/main.ts"), "text/javascript; charset=utf-8"],
  ["/page.css", plotStyle + style, "text/css; charset=utf-8"],
  ["/icon.svg", icon, "image/svg+xml"]
] as const

/** What a browser shows of the bridge; it reads `/events` and `/history`. */
export const page = (router: HttpRouter.HttpRouter) =>
  Effect.forEach(files, ([path, text, contentType]) =>
    router.add("GET", path, Effect.succeed(HttpServerResponse.text(text, { contentType })))
  )
