// Requests. For each part of the page only the answer to the latest request counts.
const asked = {};
async function ask(part, path) {
  asked[part]?.abort();
  const controller = (asked[part] = new AbortController());
  const answer = await fetch(path, { signal: controller.signal, cache: "no-store", headers: { accept: "application/json" } });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail || `${answer.status} ${answer.statusText}`);
  }
  const date = Date.parse(answer.headers.get("date"));
  // The header has whole seconds; a second or two of difference does not matter.
  if (!Number.isNaN(date)) ahead = Math.abs(date - Date.now()) < 2500 ? 0 : date - Date.now();
  return answer.json();
}
const isAbort = (error) => error.name === "AbortError";

// The state of the page that is kept in its URL.
const link = new URLSearchParams(location.search);
const view = {
  q: link.get("q") ?? "", action: link.get("action") ?? "", reason: link.get("reason") ?? "",
  sort: COLUMNS.some(([key]) => key !== null && key === link.get("sort")) ? link.get("sort") : "goes_at",
  order: link.get("order") === "desc" ? "desc" : "asc", before: [], after: null, next: null, matched: 0,
};
function keepLink() {
  const kept = new URLSearchParams();
  for (const key of ["q", "action", "reason", "sort", "order"]) if (view[key]) kept.set(key, view[key]);
  history.replaceState(null, "", `?${kept}${location.hash}`);
  showExports();
}

// Links to all that matches, as a file.
function showExports() {
  for (const form of ["csv", "json"]) {
    const query = new URLSearchParams({ format: form, sort: view.sort, order: view.order });
    for (const key of ["q", "action", "reason"]) if (view[key]) query.set(key, view[key]);
    $(`as-${form}`).href = `v1/export?${query}`;
  }
}

let problem = null;
let status = null;
let forecast = null;
let fleet = null; // The fleet of this host; null: it is in none, or not known yet.
const columns = () => status?.fleet ? [...COLUMNS.slice(0, 3), ELSEWHERE, ...COLUMNS.slice(3)] : COLUMNS;
