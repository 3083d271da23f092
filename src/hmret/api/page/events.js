// Events.
const vms = (sources, names) => (sources ?? []).map((source) => names?.[source] ? `${names[source]} (${source})` : source).join(", ");
const last = (one) => one.last_referenced_by ? `; last needed by ${vms(one.last_referenced_by, one.vm_names)}` : "";
const EVENTS = {
  delete: (one) => `deleted ${short(one.image)}, ${one.quarantined_until ? `in quarantine until ${instant(one.quarantined_until)}` : `freed ${bytes(one.bytes ?? 0)}`}${last(one)}`,
  ghost: (one) => `removed the leftovers of a late tag call for ${String(one.digest ?? "").slice(0, 19)}`,
  mark: (one) => `${short(one.image)} is unused: its timer has started${last(one)}`,
  clear: (one) => `timer of ${short(one.image)} stopped: ${one.reason ? nameOf(one.reason).toLowerCase() : "used"}${one.referenced_by?.length ? ` by ${vms(one.referenced_by, one.vm_names)}` : ""}`,
  restore: (one) => `${short(one.image)} is back from quarantine`,
  release: (one) => `${short(one.image)} left the quarantine, freed ${bytes(one.bytes ?? 0)}`,
  recover: (one) => `finished an interrupted deletion: ${short(one.image)}`,
  failure: (one) => `${plain(one.reason ?? "failure")}: ${[one.image ? short(one.image) : "", one.path, one.error].filter(Boolean).join(": ")}`,
  sweep: (one) => `sweep: ${plain(one.status ?? "ended")}${one.deleted ? `, ${images(one.deleted)} deleted` : ""}${one.marked ? `, ${count(one.marked)} ${one.marked === 1 ? "timer" : "timers"} started` : ""}`,
  deletion_suspended: (one) => `deletion is suspended: ${CAUSES[one.cause] ?? plain(one.cause ?? "")} ${one.path ?? ""}`,
  brake_holds: (one) => `the brake holds: ${one.detail ?? ""}`,
  timers_stopped: (one) => `${one.timers === 1 ? "a timer was" : `${count(one.timers ?? 0)} timers were`} stopped: ${one.detail ?? ""}`,
  disk_stays_full: (one) => `the disk stays too full: ${one.detail ?? ""}`,
  reference_ignored: (one) => `an unreadable reference is ignored: ${one.path ?? ""}`,
  newer_layout_left_alone: (one) => `left alone, no image: ${one.path ?? ""}`,
  not_an_image: (one) => odd("no image, left alone", one),
  content_broken: (one) => odd("a broken image, left alone", one),
  content_without_owner: (one) => odd("an image that belongs to no repository, left alone", one),
  promotion_cut_off: (one) => odd("a promotion that was cut off", one),
  unfinished_image: (one) => odd("a pull that does not go on", one),
  invalid_link: (one) => odd("a link that is no tag, left alone", one),
  tag_stage_left: (one) => odd("left of a tag that was being set", one),
  build_unreadable: (one) => odd("a build record cannot be read", one),
  fleet_joined: (one) => `joined the fleet ${one.reason ?? ""}`,
  fleet_unreachable: (one) => `out of the fleet: ${[plain(one.reason ?? ""), one.error].filter(Boolean).join(": ")}`,
  fleet_paused: (one) => `the fleet is paused ${one.detail ?? ""}`,
  released: (one) => `${short(one.image)} no longer counts in the fleet: it goes here`,
  no_longer: (one) => `no longer: ${plain(one.what ?? "")} ${one.path ?? ""}`,
  missed: (one) => String(one.detail ?? "some events were missed"),
};
const BAD = new Set(["failure", "deletion_suspended", "brake_holds", "disk_stays_full", "reference_ignored", "timers_stopped", "fleet_unreachable"]);
function odd(what, one) {
  return [what, one.path, one.detail].filter(Boolean).join(": ");
}
function short(image) {
  const [repository, digest = ""] = String(image ?? "").split("@");
  return digest ? `${repository}@${digest.replace("sha256:", "").slice(0, 12)}` : repository;
}
function note(name, one, isNew = true) {
  const said = EVENTS[name] ? EVENTS[name](one) : plain(name);
  const quiet = name === "sweep" && !one.deleted && !one.marked && !one.released && !one.errors && one.status === "success";
  if (!quiet) {
    const at = typeof one.time === "string" ? one.time : new Date().toISOString();
    $("log").querySelector(".waiting")?.remove();
    $("log").prepend(make("li", {}, make("time", { datetime: at, title: instant(at) }, at.slice(0, 10) === new Date(Date.now() + ahead).toISOString().slice(0, 10) ? at.slice(11, 19) : dayName(at.slice(0, 10), { day: "numeric", month: "short" })), make("span", { class: BAD.has(name) ? "what bad" : "what" }, said)));
    while ($("log").children.length > 100) $("log").lastElementChild.remove();
  }
  if (isNew) refresh();
}
function showLive(isLive, text) {
  const [dot, words] = $("live").children;
  dot.className = isLive ? "dot on" : "dot off";
  if (words.textContent !== text) words.textContent = text;
}
let source = null;
let seen = ""; // The id of the latest event that is shown.
// The latest events, then all that come: none is lost in between, and none comes twice.
async function openEvents() {
  try {
    const past = await ask("events", "v1/history?days=1");
    for (const one of past.events) note(String(one.event), one, false);
    seen = past.last_event_id;
  } catch { /* Then only what happens from now on is shown. */ }
  listen();
}
function listen() {
  source?.close();
  source = new EventSource(seen ? `v1/events?after=${encodeURIComponent(seen)}` : "v1/events");
  source.addEventListener("open", () => { showLive(true, "live"); refresh(); });
  source.addEventListener("error", () => {
    showLive(false, "reconnecting");
    // The browser may stop reconnecting; this page does not.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
  for (const name of Object.keys(EVENTS)) {
    source.addEventListener(name, (event) => {
      if (event.lastEventId) seen = event.lastEventId;
      let one = {};
      try { one = JSON.parse(event.data); } catch { return; }
      note(name, one && typeof one === "object" ? one : {});
    });
  }
  source.addEventListener("dropped", () => setTimeout(listen, 1000));
}
