// Everything that comes from the host (names, paths, errors) is only ever set as text, never as markup.
const $ = (id) => document.getElementById(id);
function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
function draw(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
}

// A card with a heading; `note` says what its figures mean.
function card(id, heading, note, ...parts) {
  return make("section", { class: "card", "aria-labelledby": id }, make("div", { class: "head" }, make("h3", { id }, heading), note ? make("span", { class: "note" }, note) : null), ...parts);
}
// A table that is shown as cards on a phone, where its columns' names stand beside each value. A column is
// [name, cell, class, sort key]; a cell returns nodes or texts. The roles outlast the change of display.
function table(label, columns, rows, { sort = null, onSort = null, empty = "None." } = {}) {
  if (rows.length === 0) return make("p", { class: "empty" }, empty);
  const heads = columns.map(([name, , kind, key, first = "asc"]) => {
    if (!key) return make("th", { scope: "col", role: "columnheader", class: kind }, name);
    const isSorted = sort?.key === key;
    const button = make("button", { type: "button" }, name, make("span", { class: "arrow", "aria-hidden": "true" }, isSorted ? (sort.order === "asc" ? "▲" : "▼") : ""));
    button.addEventListener("click", () => onSort(key, isSorted ? (sort.order === "asc" ? "desc" : "asc") : first));
    return make("th", { scope: "col", role: "columnheader", class: `sortable ${kind ?? ""}`, "data-key": key, "aria-sort": isSorted ? (sort.order === "asc" ? "ascending" : "descending") : null }, button);
  });
  const body = rows.map((row) => make("tr", { role: "row", class: "row" }, ...columns.map(([name, cell, kind]) => make("td", { role: "cell", class: kind, "data-label": name }, ...[cell(row)].flat().filter((one) => one !== null)))));
  return make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label },
    make("table", { class: "cards", role: "table", "aria-label": label }, make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)), make("tbody", { role: "rowgroup" }, ...body)));
}
function facts(...pairs) {
  return make("dl", { class: "facts" }, ...pairs.filter((pair) => pair !== null).flatMap(([name, ...values]) => [make("dt", {}, name), make("dd", {}, ...values)]));
}
function linkTo(values, text, kind = "") {
  return make("a", { href: `#${new URLSearchParams(values)}`, class: kind }, text);
}
// Puts something in the place of what a box holds; what has the focus there keeps it, if it is there again.
const focusKey = (node) => node.getAttribute("href") ?? node.closest("th")?.dataset.key ?? node.getAttribute("aria-label");
function put(box, ...nodes) {
  const key = box.contains(document.activeElement) ? focusKey(document.activeElement) : null;
  box.replaceChildren(...nodes.flat().filter((node) => node !== null));
  if (key) [...box.querySelectorAll("a, th button, [tabindex]")].find((node) => focusKey(node) === key)?.focus({ preventScroll: true });
}
