/** What to do about a refusal, by the code that the portal or the bridge gave. */
export interface Advice {
  readonly en: string
  readonly ru: string
}

const webhook: Advice = {
  en: "The portal does not know this webhook: create a new one, or correct user and token in the producer.",
  ru: "Портал не знает этот вебхук: создайте новый или исправьте user и token у того, кто шлёт запросы."
}

const missing: Advice = {
  en: "Nothing has this id on the portal: see whether it was deleted, or the id is of another kind.",
  ru: "На портале нет ничего с таким идентификатором: проверьте, не удалено ли оно и того ли оно вида."
}

const scope: Advice = {
  en: "The webhook lacks a right: edit it on the portal and tick the scope of this method.",
  ru: "Вебхуку не хватает права: откройте его на портале и отметьте раздел, к которому относится метод."
}

const method: Advice = {
  en: "The portal has no such method: correct its name, or install the module it belongs to.",
  ru: "На портале нет такого метода: исправьте имя или установите модуль, которому он принадлежит."
}

const access: Advice = {
  en: "The webhook's user may not do this: give the user the right, or use another's webhook.",
  ru: "Пользователю вебхука это запрещено: дайте ему право или возьмите вебхук другого пользователя."
}

const parameters: Advice = {
  en: "The method refuses these parameters: the answer's body says which; correct the producer.",
  ru: "Метод отвергает эти параметры: какие, сказано в теле ответа; исправьте того, кто шлёт запросы."
}

const header = (name: string, en: string, ru: string): Advice => ({
  en: `The header ${name} ${en}`,
  ru: `Заголовок ${name} ${ru}`
})

/** Those of the portal after b24restdocs, `_includes/system-errors.md`; those of the bridge are in docs/messages.md. */
const byCode: Readonly<Record<string, Advice>> = {
  NO_AUTH_FOUND: webhook,
  INVALID_CREDENTIALS: webhook,
  authorization_error: webhook,
  expired_token: webhook,
  invalid_token: webhook,
  APPLICATION_NOT_FOUND: webhook,
  INVALID_REQUEST: { en: "The portal wants HTTPS: correct B24REST.", ru: "Портал требует HTTPS: исправьте B24REST." },
  insufficient_scope: scope,
  BITRIX_REST_V3_EXCEPTION_INSUFFICIENTSCOPEEXCEPTION: scope,
  ACCESS_DENIED: access,
  user_access_error: access,
  allowed_only_intranet_user: access,
  BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION: access,
  ERROR_METHOD_NOT_FOUND: method,
  BITRIX_REST_V3_EXCEPTION_METHODNOTFOUNDEXCEPTION: method,
  NOT_FOUND: missing,
  ERROR_ELEMENT_NOT_FOUND: missing,
  ERROR_ITEM_NOT_FOUND: missing,
  BITRIX_REST_V3_EXCEPTION_ENTITYNOTFOUNDEXCEPTION: missing,
  B24RMQ_NO_METHOD: header("method", "is missing: add it.", "отсутствует: добавьте его."),
  B24RMQ_BAD_METHOD: header(
    "method",
    "is no name of a method: send the bare name, such as crm.deal.list.",
    "не имя метода: шлите одно имя, например crm.deal.list."
  ),
  B24RMQ_NO_USER: header(
    "user",
    "is missing: add the number in the webhook's address.",
    "отсутствует: добавьте число из адреса вебхука."
  ),
  B24RMQ_BAD_USER: header("user", "is no whole number: send digits only.", "не целое число: шлите одни цифры."),
  B24RMQ_NO_TOKEN: header(
    "token",
    "is missing: add the last part of the webhook's address.",
    "отсутствует: добавьте последнюю часть адреса вебхука."
  ),
  B24RMQ_BAD_TOKEN: header(
    "token",
    "is no secret of a webhook: send letters and digits alone, without slashes.",
    "не похож на секрет вебхука: шлите одни буквы и цифры, без косых черт."
  ),
  B24RMQ_BAD_ENCODING: {
    en: "The body is not UTF-8: write UTF-8, not Windows-1251 or UTF-16.",
    ru: "Тело не в UTF-8: пишите в UTF-8, а не в Windows-1251 или UTF-16."
  },
  B24RMQ_BAD_JSON: {
    en: "The body is not JSON that PHP can read: let a JSON library write it.",
    ru: "Тело не JSON, который читает PHP: пусть его пишет библиотека JSON."
  },
  B24RMQ_BAD_PARAMETERS: {
    en: "The body is a single value: send an object or a list, encoded once.",
    ru: "Тело это одно значение: шлите объект или список, закодированный один раз."
  },
  B24RMQ_TOO_DEEP: {
    en: "More than 511 lists and maps within each other: flatten them.",
    ru: "Больше 511 вложенных списков и объектов: сделайте вложенность меньше."
  },
  B24RMQ_REQUEST_TOO_LARGE: {
    en: "The request is too long for the bridge or the portal: send less at once.",
    ru: "Запрос слишком длинный для моста или портала: шлите меньше за раз."
  },
  B24RMQ_ANSWER_TOO_LARGE: {
    en: "The answer is too long: ask for less at once by select, filter or pages.",
    ru: "Ответ слишком длинный: просите меньше за раз, через select, filter или страницы."
  }
}

export const adviceFor = (code: string): Advice =>
  (Object.hasOwn(byCode, code) ? byCode[code] : undefined) ?? parameters
