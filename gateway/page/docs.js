"use strict";
// Shows the API's OpenAPI document. Text goes in as text, never as markup.

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const row = (tag, cells) => make("tr", {}, ...cells.map((cell) => make(tag, tag === "th" ? { scope: "col" } : {}, ...told(cell))));

function table(head, rows) {
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, row("th", head)), make("tbody", {}, ...rows.map((cells) => row("td", cells)))));
}

/** Text in which what stands between backticks is code, and names of documents lead to them. */
function told(text) {
  const parts = text.split("`").map((part, n) => n % 2 === 1 ? make("code", {}, part) : part);
  return parts.flatMap((part) => typeof part !== "string" ? [part] : part.split(/\b([A-Z]\w+)\b/).map((word) => documents.has(word) ? make("a", { href: `#${word}` }, word) : word));
}
let documents = new Set();

/** A schema in a few words: `SagaSummary[]`, `string or null`, `integer, 1 to 1000`. */
function named(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.type === "array") return `${named(schema.items)}[]`;
  const several = schema.oneOf ?? schema.anyOf;
  if (several) return several.map(named).join(" or ");
  const types = [schema.type ?? "any"].flat().join(" or ");
  const [least, most] = [schema.minimum ?? schema.minLength, schema.maximum ?? schema.maxLength];
  if (most !== undefined) return `${types}, ${least ?? 0} to ${most}${schema.maxLength ? " characters" : ""}`;
  return schema.format ? `${types} (${schema.format})` : types;
}

function answers(operation) {
  return Object.entries(operation.responses).map(([status, answer]) => {
    const kinds = Object.entries(answer.content ?? {}).map(([media, { schema }]) => /json$/.test(media) ? named(schema) : `${media}: ${named(schema)}`);
    return [status, answer.description, kinds.join(", ")];
  });
}

const anchor = (method, path) => `${method}-${path.replace(/[^a-z_]+/g, "-")}`;

function section(method, path, operation) {
  const parts = [make("h2", { id: anchor(method, path) }, `${method.toUpperCase()} ${path}`), make("p", {}, make("strong", {}, operation.summary ?? ""))];
  if (operation.description) parts.push(make("p", {}, ...told(operation.description)));
  if (operation.security) parts.push(make("p", { class: "hint" }, "For administrators: Authorization: Bearer, or a named user at a Unix socket."));
  if (operation.parameters) {
    const rows = operation.parameters.map((p) => [p.name, p.in, named(p.schema), p.required ? "required" : "", p.description ?? ""]);
    parts.push(make("h3", {}, "Parameters"), table(["Name", "In", "Type", "", "Meaning"], rows));
  }
  const body = operation.requestBody?.content["application/json"]?.schema;
  if (body) parts.push(make("h3", {}, "Body"), make("p", {}, ...told(named(body))));
  parts.push(make("h3", {}, "Answers"), table(["Status", "Meaning", "Document"], answers(operation)));
  return make("section", {}, ...parts);
}

function schemaSection(name, schema) {
  const fields = Object.assign({}, ...[schema, ...(schema.allOf ?? [])].map((part) => part.properties ?? {}));
  const rows = Object.entries(fields).map(([field, of]) => [field, named(of), of.description ?? ""]);
  const inherited = (schema.allOf ?? []).filter((part) => part.$ref).map((part) => make("p", {}, ...told(`Everything of ${named(part)}, and:`)));
  const shown = rows.length > 0 ? [table(["Field", "Type", "Meaning"], rows)] : [make("p", {}, named(schema))];
  return make("section", { id: name }, make("h2", {}, name), make("p", {}, ...told(schema.description ?? "")), ...inherited, ...shown);
}

async function start() {
  const about = document.getElementById("about");
  try {
    const api = await (await fetch("openapi.json", { credentials: "omit" })).json();
    documents = new Set(Object.keys(api.components.schemas));
    about.replaceChildren(...told(`${api.info.description} Version ${api.info.version}.`));
    const all = Object.entries(api.paths).flatMap(([path, item]) => Object.entries(item).map(([method, operation]) => [method, path, operation]));
    const contents = all.map(([method, path, operation]) => make("li", {}, make("a", { href: `#${anchor(method, path)}` }, `${method.toUpperCase()} ${path}`), ` ${operation.summary ?? ""}`));
    const schemas = Object.entries(api.components.schemas).map(([name, schema]) => schemaSection(name, schema));
    document.getElementById("operations").append(make("nav", { "aria-label": "Operations" }, make("ul", {}, ...contents)),
      ...all.map((operation) => section(...operation)), make("h2", {}, "Documents"), ...schemas);
    // What the address leads to was not there when it was opened.
    if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  } catch (error) {
    about.textContent = `The description can't be read: ${error.message}`;
  }
}
start();
