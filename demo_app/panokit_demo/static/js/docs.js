/** The page about the API, drawn from the server's own OpenAPI description. */

import { addressOf } from "./api.js";
import { element } from "./page.js";

const answer = await fetch(addressOf("openapi.json"));
/** @type {Panokit.OpenApi} */
const spec = await answer.json();
const page = /** @type {HTMLElement} */ (document.getElementById("document"));
page.append(element("p", { className: "quiet", textContent: spec.info.description }));

/** @type {Map<string, Panokit.Described[]>} */
const byTag = new Map();
for (const [path, methods] of Object.entries(spec.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const tag = operation.tags?.[0] ?? "other";
    byTag.set(tag, [...(byTag.get(tag) ?? []), { path, method, operation }]);
  }
}
const first = ["one request", "sessions", "about"];
for (const tag of [...byTag.keys()].sort((a, b) => first.indexOf(a) - first.indexOf(b))) {
  page.append(element("h2", { textContent: tag }), ...(byTag.get(tag) ?? []).map(describe));
}

/** @param {Panokit.Described} described */
function describe({ path, method, operation }) {
  const title = element("h3", {}, [
    element("span", { className: "method", textContent: method.toUpperCase() }),
    path,
  ]);
  const rows = [...parameters(operation)].map(([name, kind, about]) =>
    element("tr", {}, [
      element("th", { textContent: name, scope: "row" }),
      element("td", { textContent: kind }),
      element("td", { textContent: about }),
    ])
  );
  return element("article", { className: "operation" }, [
    title,
    element("p", { textContent: operation.description ?? operation.summary }),
    ...(rows.length ? [element("table", {}, [element("tbody", {}, rows)])] : []),
    element("pre", { textContent: example(path, method, operation) }),
  ]);
}

/** @param {Panokit.Operation} operation */
function* parameters(operation) {
  for (const p of operation.parameters ?? []) {
    yield [p.name, p.required ? "needed" : "may be left out", p.description ?? ""];
  }
  const schema = bodyOf(operation);
  for (const [name, field] of Object.entries(schema?.properties ?? {})) {
    const needed = schema?.required?.includes(name) ? "needed" : "may be left out";
    const choices = field.enum ? ` (${field.enum.join(", ")})` : "";
    yield [name, needed, (field.description ?? "") + choices];
  }
}

/**
 * @param {Panokit.Operation} operation
 * @returns {Panokit.Schema | undefined}
 */
function bodyOf(operation) {
  const content = operation.requestBody?.content ?? {};
  const schema = Object.values(content)[0]?.schema;
  const name = schema?.$ref?.split("/").pop();
  return name ? spec.components.schemas[name] : schema;
}

/**
 * @param {string} path
 * @param {string} method
 * @param {Panokit.Operation} operation
 */
function example(path, method, operation) {
  /** @type {Record<string, string>} */
  const fields = { photo: "@photo.jpg", dump: "@photo.safetensors", edits: "@edits.json" };
  const url = addressOf(path.slice(1));
  if (operation.requestBody?.content["multipart/form-data"]) {
    const needed = bodyOf(operation)?.required ?? ["photo"];
    const form = needed.map((n) => `-F ${n}=${n === "edits" ? "<edits.json" : fields[n]}`);
    return ["curl", ...form, url].join(" ");
  }
  return `curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`} ${url}`;
}
