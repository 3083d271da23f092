// The rest.
function told(text) { problem = text; showBanners(); }
async function look() {
  try {
    // Each is shown when it comes: on a large cache a forecast takes longer.
    await Promise.all([ask("status", "v1/status").then(showStatus), ask("forecast", "v1/forecast").then(showForecast)]);
    problem = null;
    showBanners();
  } catch (error) {
    if (!isAbort(error)) told(error.message);
  }
}
function showStatus(found) {
  const shown = columns().length;
  status = found;
  if (columns().length !== shown) { showColumns(); showRows(); }
  if (status.fleet) askFleet();
  showBanners(); showTiles(); showTimes(); showSweep(); titled();
  $("host").textContent = status.host || "Image retention";
  $("where").textContent = status.data_dir;
  $("version").textContent = `hmret ${status.version}`;
}
function showForecast(found) {
  forecast = found;
  showTiles(); showShare(); showChart(); showSweep();
}
// Beside the rest, which does not wait for etcd.
async function askFleet() {
  try {
    fleet = await ask("fleet", "v1/fleet");
    showTiles();
  } catch (error) {
    if (!isAbort(error)) fleet = null;
  }
}
function showTimes() {
  if (status === null) return;
  const last = status.last_sweep;
  $("swept").textContent = last !== null ? `last sweep ${distance(last.started_at)}`
    : status.sweeping ? `first sweep: ${images(status.images_seen)} so far` : "no sweep yet";
  for (const one of document.querySelectorAll("#rows time, .view:not([hidden]) table.cards time")) one.textContent = distance(one.dateTime);
}
let refreshing = 0;
let refreshed = 0;
function refresh() {
  // Soon, but at most every two seconds however many events arrive.
  if (refreshing) return;
  refreshing = setTimeout(() => {
    refreshing = 0;
    refreshed = Date.now();
    look();
    lookAtDisk();
    list();
    // An explanation is a plan of its own, which is not made for each event.
    if (shownView !== "image" && document.visibilityState === "visible") loaders[shownView]?.();
  }, Math.max(150, refreshed + 2000 - Date.now()));
}

$("action").append(make("option", { value: "" }, "Any action"), ...Object.entries(ACTIONS).map(([key, text]) => make("option", { value: key }, text[0].toUpperCase() + text.slice(1))));
$("reason").append(make("option", { value: "" }, "Any reason"), ...Object.entries(REASONS).map(([key, [, text]]) => make("option", { value: key }, text)));
$("q").value = view.q;
$("action").value = view.action;
$("reason").value = view.reason;
[view.action, view.reason] = [$("action").value, $("reason").value];
$("log").append(make("li", { class: "waiting" }, make("span", { class: "note" }, "nothing yet")));
const ORDERS = COLUMNS.filter(([key]) => key !== null).flatMap(([key, name, first]) => [first, first === "asc" ? "desc" : "asc"].map((order) => [`${key} ${order}`, `${name}, ${order === "asc" ? "ascending" : "descending"}`]));
$("sort").append(...ORDERS.map(([value, text]) => make("option", { value }, text)));
showOrder();
showExports();
showColumns();
showView(false);
look();
list();
lookAtDisk();
lookAtPolicy();
openEvents();
setInterval(showTimes, 5000);
setInterval(() => { if (document.visibilityState === "visible") { look(); lookAtDisk(); lookAtPolicy(); } }, 30000);
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") refresh(); });
