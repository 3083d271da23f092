// The views: which one is shown is said by the part of the address behind the #, so that each can be linked to.
// #view=NAME, with q, sort and order of its list; #image=REPOSITORY@DIGEST.
const VIEWS = { overview: "Overview", disk: "Disk", quarantine: "Quarantine", history: "History", users: "Who keeps what", repositories: "Repositories", policy: "Policy" };
const loaders = {}; // By view, what loads it; it is called again when something has happened.
let shownView = null;
function place() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("image")) return { view: "image", given };
  const name = given.get("view");
  return { view: name !== null && Object.hasOwn(VIEWS, name) ? name : "overview", given };
}
function keepPlace(values) {
  const given = new URLSearchParams(Object.entries(values).filter(([, value]) => value));
  history.replaceState(null, "", `${location.pathname}${location.search}#${given}`);
}
function titled() {
  const name = shownView === "image" ? place().given.get("image") : VIEWS[shownView] ?? "";
  const host = status?.host || "Image retention";
  document.title = shownView === "overview" || shownView === null ? `${host}: image retention` : `${name}, ${host}: image retention`;
}
function showView(isMove) {
  const { view: name } = place();
  shownView = name;
  for (const one of document.querySelectorAll(".view")) one.hidden = one.id !== `view-${name}`;
  for (const one of $("views").children) {
    if (one.dataset.view === name) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  titled();
  loaders[name]?.();
  if (name === "overview") showChart();
  // Who moves by keyboard or hears the page is taken to what is new.
  if (isMove) $(`view-${name}`).querySelector("h2").focus({ preventScroll: false });
}
// Loads a part of a view and shows it; a failure is told in its place.
async function load(part, path, shown) {
  const box = $(part);
  try {
    const document_ = await ask(part, path);
    put(box, shown(document_));
  } catch (error) {
    if (isAbort(error)) return;
    put(box, make("section", { class: "card" }, make("p", { class: "empty", role: "alert" }, `This cannot be shown: ${error.message}`)));
  }
}
// What a list shows instead of another page: the next ones below.
function more(document_, load_) {
  if (document_.next === null) return null;
  const button = make("button", { type: "button", class: "plain" }, "Show more");
  button.addEventListener("click", () => load_());
  return make("div", { class: "pager" }, button);
}
// A search field that keeps its text in the address and asks again while somebody types.
function searchOf(id, label, text, changed) {
  const field = make("input", { id, type: "search", autocomplete: "off", spellcheck: "false", maxlength: 200, placeholder: label, value: text });
  let waits = 0;
  const go = () => { clearTimeout(waits); changed(field.value.trim()); };
  field.addEventListener("input", () => { clearTimeout(waits); waits = setTimeout(go, 200); });
  const form = make("form", { class: "tools", role: "search", "aria-label": label }, make("label", { class: "unseen", for: id }, label), field);
  form.addEventListener("submit", (event) => { event.preventDefault(); go(); });
  return form;
}
$("views").append(...Object.entries(VIEWS).map(([name, text]) => make("a", { href: `#view=${name}`, "data-view": name }, text)));
$("skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
window.addEventListener("hashchange", () => showView(true));
