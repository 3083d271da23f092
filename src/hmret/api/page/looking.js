// The rest.
function told(text) { problem = text; showBanners(); }
async function look() {
  try {
    const shown = columns().length;
    [status, forecast] = await Promise.all([ask("status", "v1/status"), ask("forecast", "v1/forecast")]);
    if (columns().length !== shown) { showColumns(); showRows(); }
    if (status.fleet) askFleet();
    problem = null;
    showBanners(); showTiles(); showShare(); showChart(); showTimes();
    $("where").textContent = status.data_dir;
    $("version").textContent = `hmret ${status.version}`;
  } catch (error) {
    if (!isAbort(error)) told(error.message);
  }
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
  for (const one of $("rows").querySelectorAll("time")) one.textContent = distance(one.dateTime);
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
    list();
  }, Math.max(150, refreshed + 2000 - Date.now()));
}
