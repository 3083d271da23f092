// The table.
const opened = new Map(); // By repository@digest, what was explained.
function showColumns() {
  if ($("columns").children.length !== columns().length) {
    $("columns").replaceChildren();
    for (const [key, name, first, kind] of columns()) {
      if (key === null) { $("columns").append(make("th", { scope: "col", role: "columnheader", class: kind ?? "" }, name)); continue; }
      const button = make("button", { type: "button" }, name, make("span", { class: "arrow", "aria-hidden": "true" }));
      button.addEventListener("click", () => {
        view.order = view.sort === key ? (view.order === "asc" ? "desc" : "asc") : first;
        view.sort = key;
        restart();
      });
      $("columns").append(make("th", { scope: "col", role: "columnheader", class: `sortable ${kind ?? ""}`, "data-key": key }, button));
    }
  }
  for (const cell of $("columns").children) {
    const isSorted = cell.dataset.key === view.sort;
    if (isSorted) cell.setAttribute("aria-sort", view.order === "asc" ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
    const arrow = cell.querySelector(".arrow");
    if (arrow) arrow.textContent = isSorted ? (view.order === "asc" ? "▲" : "▼") : "";
  }
}
function reasonText(image) {
  return [make("span", { class: "reason" }, make("span", { class: `swatch g-${groupOf(image.reason)}`, "aria-hidden": "true" }), nameOf(image.reason)),
    make("span", { class: "action" }, actionOf(image))];
}
// A VM by its id, and by its name where it has one.
function called(source) {
  return vmNames.has(source) ? `${vmNames.get(source)} (${source})` : source;
}
function holders(image) {
  const names = image.referenced_by.length > 0 ? image.referenced_by.map(called) : image.held_by.map((one) => one.repository);
  if (names.length === 0) return [make("span", { class: "note" }, "–")];
  const shown = names.slice(0, 2).join(", ");
  const rest = names.length - 2;
  return [rest > 0 ? `${shown} and ${count(rest)} more` : shown];
}
// Content that several repositories have is shown in full for each; sums count it once.
function diskBytes(image) {
  const sharers = image.shared_with.length;
  return [bytes(image.disk_bytes), sharers === 0 ? null : make("span", { class: "shared", title: image.shared_with.join(", ") }, `shared with ${count(sharers)} ${sharers === 1 ? "other" : "others"}`)];
}
function factsOf(image) {
  const known = opened.get(`${image.repository}@${image.digest}`);
  const names = Object.fromEntries(vmNames);
  const about = known?.state === "known" ? known.found : null;
  const failure = known?.state === "failed" ? make("p", { class: "note" }, known.text) : null;
  return make("tr", { class: "facts-row", role: "row" }, make("td", { colspan: columns().length, role: "cell" }, imageFacts(image, about, names), failure,
    make("p", {}, imageLink(image.repository, image.digest, "A link to this image"))));
}
async function explain(key, reason) {
  opened.set(key, { state: "asking", reason });
  try {
    const answer = await fetch(`v1/images/${key.split("/").map(encodeURIComponent).join("/")}`, { cache: "no-store" });
    const found = await answer.json();
    opened.set(key, answer.ok ? { state: "known", reason, found } : { state: "failed", reason, text: found.detail ?? answer.statusText });
  } catch (error) {
    opened.set(key, { state: "failed", reason, text: error.message });
  }
  showRows();
}
const vmNames = new Map(); // By who refers to an image, as instance/ID.
let listed = [];
function showRows() {
  const focused = document.activeElement?.dataset?.key;
  const rows = [];
  for (const image of listed) {
    const key = `${image.repository}@${image.digest}`;
    const isOpen = opened.has(key);
    const button = make("button", { type: "button", class: "open-row", "aria-expanded": isOpen ? "true" : "false", "data-key": key },
      make("span", { class: "repo" }, image.repository), make("span", { class: "digest mono" }, image.digest.slice(0, 19)));
    button.addEventListener("click", () => {
      if (opened.delete(key)) return showRows();
      explain(key, image.reason);
      showRows();
    });
    // An explanation is requested again once its verdict has changed.
    if (isOpen && opened.get(key).reason !== image.reason) explain(key, image.reason);
    const shown = image.tags.length === 0 ? [make("span", { class: "note" }, "untagged")] : image.tags.slice(0, 6).map((tag) => make("span", { class: "tag mono" }, tag));
    if (image.tags.length > 6) shown.push(make("span", { class: "note" }, `and ${count(image.tags.length - 6)} more`));
    const stays = STAYS.has(image.reason);
    const isPast = image.expires_at !== null && image.action !== "mark" && image.action !== "clear" && !stays && Date.parse(image.expires_at) <= Date.now() + ahead;
    const falls = stays && image.expires_at !== null ? make("span", { class: "note", title: `its window ends ${instant(image.expires_at)}` }, "stays") : moment(image.expires_at, isPast ? "due past" : "due");
    const cell = (name, kind, ...values) => make("td", { role: "cell", class: kind, "data-label": name }, ...values);
    rows.push(make("tr", { class: isOpen ? "row open" : "row", role: "row" },
      cell("Image", null, button, ...shown), cell("State", null, ...reasonText(image)), cell("Needed by", "holder", ...holders(image)),
      ...(status?.fleet ? [cell("Elsewhere", "num", image.copies_elsewhere === null ? make("span", { class: "note" }, "–") : count(image.copies_elsewhere))] : []),
      cell("On the disk", "num", ...diskBytes(image)), cell("Unused since", null, moment(image.unused_since)), cell("Falls due", null, falls)));
    if (isOpen) rows.push(factsOf(image));
  }
  $("rows").replaceChildren(...rows);
  if (focused) [...$("rows").querySelectorAll(".open-row")].find((one) => one.dataset.key === focused)?.focus();
}
async function list() {
  const query = new URLSearchParams({ limit: String(PAGE), sort: view.sort, order: view.order });
  for (const key of ["q", "action", "reason"]) if (view[key]) query.set(key, view[key]);
  if (view.after) query.set("after", view.after);
  showColumns();
  $("frame").classList.add("busy");
  try {
    const page = await ask("images", `v1/images?${query}`);
    for (const [source, name] of Object.entries(page.vm_names ?? {})) vmNames.set(source, name);
    listed = page.images;
    view.next = page.next;
    view.matched = page.matched;
    const isFiltered = Boolean(view.q || view.action || view.reason);
    $("count").textContent = isFiltered ? `${count(page.matched)} of ${images(page.total)}` : images(page.total);
    $("as-of").textContent = `as of ${instant(page.at).slice(11)}`;
    $("empty").hidden = listed.length > 0;
    $("empty").textContent = isFiltered ? "No image matches." : "The cache is empty.";
    const first = view.before.length * PAGE + 1;
    $("place").textContent = listed.length ? `${count(first)}–${count(first + listed.length - 1)} of ${count(page.matched)}` : "";
    $("back").disabled = view.before.length === 0;
    $("on").disabled = view.next === null;
    showRows();
    $("frame").classList.remove("busy");
    told(null);
  } catch (error) {
    if (isAbort(error)) return;
    $("frame").classList.remove("busy");
    told(error.message);
  }
}
function showOrder() { $("sort").value = `${view.sort} ${view.order}`; }
function restart() { showOrder(); [view.before, view.after] = [[], null]; keepLink(); list(); }
function takeFilters() {
  [view.q, view.action, view.reason] = [$("q").value.trim(), $("action").value, $("reason").value];
  showShare();
  restart();
}
let typing = 0;
$("q").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(takeFilters, 200); });
$("action").addEventListener("change", takeFilters);
$("reason").addEventListener("change", takeFilters);
$("sort").addEventListener("change", () => { [view.sort, view.order] = $("sort").value.split(" "); restart(); });
$("tools").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); takeFilters(); });
function turn() { list().then(() => $("images").scrollIntoView({ block: "start" })); }
$("on").addEventListener("click", () => { view.before.push(view.after); view.after = view.next; turn(); });
$("back").addEventListener("click", () => { view.after = view.before.pop() ?? null; turn(); });
