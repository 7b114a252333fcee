// @ts-check
// The reference's "Try it": a form of each operation, made from /openapi.json when it is first asked for. Served as it is.
(() => {
  /** @typedef {{ name: string, in: string, required?: boolean, description?: string, schema?: { enum?: string[] } }} Parameter */
  /**
   * @typedef {{
   *   operationId: string, parameters?: Parameter[],
   *   requestBody?: { content: Record<string, { example?: unknown }> },
   * }} Operation
   */

  /** Longer answers are cut. */
  const MAX_SHOWN = 200_000;

  /** @type {Promise<Map<string, { method: string, path: string, operation: Operation }>> | undefined} */
  let operations;
  const load = async () => {
    const response = await fetch("/openapi.json");
    if (!response.ok) throw new Error(`The document cannot be loaded (${response.status}).`);
    const { paths } = await response.json().then((/** @type {{ paths: Record<string, Record<string, Operation>> }} */ it) => it);
    const found = Object.entries(paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
    );
    return new Map(found.map((it) => [it.operation.operationId, it]));
  };

  /**
   * @template {keyof HTMLElementTagNameMap} T
   * @param {T} tag
   * @param {Record<string, unknown>} [properties]
   * @param {(Node | string)[]} children
   */
  const make = (tag, properties = {}, ...children) => {
    const element = document.createElement(tag);
    Object.assign(element, properties);
    element.append(...children);
    return element;
  };

  /** @param {Parameter} parameter */
  const input = ({ name, in: place, required, schema }) => {
    const label = make("label", {}, `${name}${required ? " *" : ""} `, make("small", { textContent: `in the ${place}` }));
    const choices = schema?.enum;
    const field = choices
      ? make("select", { name }, make("option", { value: "" }), ...choices.map((value) => make("option", { value, textContent: value })))
      : make("input", { name, autocomplete: "off", spellcheck: false, required: required ?? false });
    field.dataset["place"] = place;
    label.append(field);
    return label;
  };

  /**
   * Returns what to fetch, as the form says.
   * @param {HTMLFormElement} form
   * @param {{ method: string, path: string }} to
   * @returns {[url: string, init: RequestInit]}
   */
  const request = (form, { method, path }) => {
    const query = new URLSearchParams();
    const headers = new Headers();
    let filled = path;
    for (const field of form.querySelectorAll("input, select")) {
      const { name, value, dataset } = /** @type {HTMLInputElement} */ (field);
      if (dataset["place"] === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(value));
      else if (value && dataset["place"] === "query") query.set(name, value);
      else if (value) headers.set(name, value);
    }
    const key = /** @type {HTMLInputElement | null} */ (document.querySelector("#key input"))?.value.trim();
    if (key) headers.set("authorization", `Bearer ${key}`);
    const body = form.querySelector("textarea");
    if (body) headers.set("content-type", body.dataset["media"] ?? "application/json");
    // By the key alone: what is tried here is what a program may do.
    const init = { method, headers, credentials: /** @type {const} */ ("omit"), ...(body ? { body: body.value } : {}) };
    return [filled + (query.size > 0 ? `?${query.toString()}` : ""), init];
  };

  /**
   * Sends, and shows the answer as it comes.
   * @param {HTMLFormElement} form
   * @param {{ method: string, path: string }} to
   * @param {HTMLElement} answer
   * @param {AbortSignal} signal
   */
  const send = async (form, to, answer, signal) => {
    const [url, init] = request(form, to);
    const response = await fetch(url, { ...init, signal });
    const status = `${response.status} ${response.statusText}`.trim();
    const kind = response.headers.get("content-type") ?? "";
    const isText = /json|text|yaml|event-stream/.test(kind);
    const shown = make("code");
    const pre = make("pre", { tabIndex: 0 }, shown);
    pre.setAttribute("aria-label", "Answer");
    answer.replaceChildren(make("p", {}, make("strong", { textContent: status }), ` ${kind}`), pre);
    if (!isText) {
      shown.textContent = `${(await response.blob()).size} bytes`;
      return;
    }
    let text = "";
    for await (const part of chunks(response)) {
      text += part;
      shown.textContent = text.slice(0, MAX_SHOWN);
      if (text.length > MAX_SHOWN) break;
    }
    if (kind.startsWith("application/json") && text.length <= MAX_SHOWN) shown.textContent = JSON.stringify(JSON.parse(text), null, 2);
    if (text === "") pre.remove();
  };

  /** @param {Response} response */
  async function* chunks(response) {
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const part = await reader?.read();
      if (!part || part.done) return;
      yield part.value;
    }
  }

  /** @param {{ method: string, path: string, operation: Operation }} to */
  const makeForm = (to) => {
    const { parameters = [], requestBody } = to.operation;
    const form = make("form", { className: "try" });
    form.append(...parameters.map(input));
    const [media, content] = Object.entries(requestBody?.content ?? {})[0] ?? [];
    if (media) {
      const body = make("textarea", { rows: 5, spellcheck: false });
      body.value = content?.example === undefined ? "" : JSON.stringify(content.example, null, 2);
      body.dataset["media"] = media;
      form.append(make("label", {}, "Body ", make("small", { textContent: media }), body));
    }
    const stop = make("button", { type: "button", className: "quiet", textContent: "Stop", hidden: true });
    const answer = make("div", { className: "answer" });
    answer.setAttribute("aria-live", "polite");
    form.append(make("div", { className: "row" }, make("button", { textContent: `Send ${to.method}` }), stop), answer);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const cut = new AbortController();
      stop.hidden = false;
      stop.onclick = () => cut.abort();
      send(form, to, answer, cut.signal)
        .catch((/** @type {unknown} */ error) => {
          if (!cut.signal.aborted) answer.replaceChildren(make("p", { textContent: String(error) }));
        })
        .finally(() => {
          stop.hidden = true;
        });
    });
    return form;
  };

  for (const button of document.querySelectorAll("section.operation > button")) {
    if (!(button instanceof HTMLButtonElement)) continue;
    button.hidden = false;
    button.addEventListener("click", () => {
      const open = async () => {
        const operation = (await (operations ??= load())).get(button.parentElement?.id ?? "");
        if (!operation) return;
        const form = makeForm(operation);
        button.replaceWith(form);
        /** @type {HTMLElement | null} */ (form.querySelector("input, select, textarea, button"))?.focus();
      };
      open().catch((/** @type {unknown} */ error) => {
        operations = undefined;
        button.textContent = `Try it again. ${String(error)}`;
      });
    });
  }
  const key = document.querySelector("#key");
  if (key instanceof HTMLFormElement) {
    key.hidden = false;
    key.addEventListener("submit", (event) => event.preventDefault());
  }
})();
