function showBanners() {
  const box = $("banners");
  const banners = [];
  if (problem !== null) {
    banners.push(make("section", { class: "banner", id: "no-answer" }, make("h2", {}, "hmret does not answer"),
      make("p", {}, `What you see may be out of date: ${problem}`)));
  }
  if (status !== null && status.suspended.length > 0) {
    const causes = status.suspended.map((one) => make("li", {},
      make("b", {}, CAUSES[one.cause] ?? plain(one.cause)),
      one.path ? make("span", {}, ": ", make("code", {}, one.path)) : null,
      make("p", { class: "remedy" }, one.detail)));
    const sign = draw("svg", { width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" },
      draw("path", { d: "M8 1 15.5 14.5H.5zM7.2 6v4h1.6V6zm0 5v1.6h1.6V11z", "fill-rule": "evenodd" }));
    banners.push(make("section", { class: "banner", id: "suspended" }, make("h2", {}, sign, "Deletion is suspended"),
      make("p", {}, "Nothing is deleted until this is resolved. Images in use stay protected, and timers keep running."),
      make("ul", {}, ...causes)));
  }
  if (status !== null && !status.enabled) {
    banners.push(make("section", { class: "banner calm", id: "disabled" }, make("h2", {}, "Retention is switched off"),
      make("p", {}, "No sweeps run and nothing is deleted. This page shows what would be done. To enable retention, set images.auto_delete.enabled, or hmret.enabled next to a hypeman server.")));
  } else if (status !== null && status.last_sweep !== null && status.last_sweep.status === "error") {
    banners.push(make("section", { class: "banner", id: "failed" }, make("h2", {}, "The last sweep failed"),
      make("p", {}, status.last_sweep.errors.map((one) => one.error).join("; "))));
  }
  const brake = status?.brake;
  if (brake && !brake.released) {
    banners.push(make("section", { class: "banner warn", id: "brake" }, make("h2", {}, "The brake holds"),
      make("p", {}, `${count(brake.expired)} of ${count(brake.eligible)} images have expired at once. They will be deleted ${inAbout(brake.seconds)}, unless hmret.enabled is set to false; hmret sweep --release-brake deletes them now.`)));
  }
  const stopped = status?.stopped_timers;
  if (stopped) {
    banners.push(make("section", { class: "banner warn", id: "stopped-timers" }, make("h2", {}, `${stopped.timers === 1 ? "A timer was" : `${count(stopped.timers)} timers were`} stopped`),
      make("p", {}, `The current settings stopped ${stopped.timers === 1 ? "it" : "them"}: ${stopped.detail}. Each of these images has to wait for its full window again once a pattern allows its deletion.`)));
  }
  if (status?.disk?.shortfall_bytes > 0) {
    banners.push(make("section", { class: "banner", id: "shortfall" }, make("h2", {}, "The disk stays too full"),
      make("p", {}, `Every eligible image has been deleted, and the disk is still ${bytes(status.disk.shortfall_bytes)} short of the low mark. Something else is filling the disk.`)));
  }
  if (policy?.refused) {
    banners.push(make("section", { class: "banner", id: "refused" }, make("h2", {}, "The last reload was refused"),
      make("p", {}, `The settings before it are in force. ${policy.refused}`), make("p", {}, linkTo({ view: "policy" }, "The policy in force"))));
  }
  const text = banners.map((one) => one.textContent).join("\n");
  // Not replaced while it stays the same, so that screen readers announce it once.
  if (box.dataset.text !== text) {
    box.dataset.text = text;
    box.replaceChildren(...banners);
    box.hidden = banners.length === 0;
  }
}

function tile(name, number, more, to = null) {
  const title = to === null ? name : linkTo({ view: to }, name);
  return make("div", { class: "card tile" }, make("p", { class: "name" }, title), make("p", { class: "number" }, number), make("p", { class: "more" }, more));
}
function held(groups) {
  let [amount, size] = [0, 0];
  for (const one of forecast?.holdings ?? []) {
    if (groups.includes(groupOf(one.reason))) { amount += one.images; size += one.bytes; }
  }
  return [amount, size];
}
function showTiles() {
  if (status === null || forecast === null) return;
  const [used, usedBytes] = held(["use"]);
  const [waiting, waitingBytes] = held(["wait"]);
  const [due, dueBytes] = held(["held", "going"]);
  const totals = status.totals;
  const kept = status.quarantine ?? { images: 0, bytes: 0 };
  const focused = document.activeElement?.closest("#tiles a")?.getAttribute("href");
  $("tiles").replaceChildren(
    tile("In the cache", bytes(forecast.bytes), images(forecast.images), "repositories"),
    tile("In use", bytes(usedBytes), images(used), "users"),
    tile("Unused, timer running", bytes(waitingBytes), images(waiting)),
    tile("Due", bytes(dueBytes), images(due)),
    tile("In quarantine", bytes(kept.bytes), `${images(kept.images)} held, not yet freed`, "quarantine"),
    tile("Freed since the start", bytes(totals.deleted_bytes), `${images(totals.deleted_images)} deleted${totals.failed_deletes ? `, ${count(totals.failed_deletes)} failed` : ""}`, "history"),
    ...(space?.total_bytes ? [tile("Disk", share(space.used_bytes, space.total_bytes), space.excess_bytes ? `${bytes(space.excess_bytes)} have to come free` : `${bytes(space.available_bytes)} free`, "disk")] : []),
    ...(status.fleet ? [fleetTile()] : []),
  );
  if (focused) [...$("tiles").querySelectorAll("a")].find((one) => one.getAttribute("href") === focused)?.focus();
}
// The state of this host in its fleet, how many hosts are live, and whether deletion is paused.
function fleetTile() {
  const more = [];
  if (fleet !== null && fleet.hosts.length > 0) more.push(`${count(fleet.hosts.filter((one) => one.live).length)} of ${count(fleet.hosts.length)} hosts live`);
  if (fleet?.settings?.paused) more.push(`paused by ${fleet.settings.paused.by || "somebody"}${fleet.settings.paused.reason ? `: ${fleet.settings.paused.reason}` : ""}`);
  if (status.fleet !== "joined" && fleet?.detail) more.push(fleet.detail);
  return tile("Fleet", FLEET_STATES[status.fleet] ?? plain(status.fleet), more.join("; ") || "…");
}
async function lookAtDisk() {
  try {
    space = await ask("tile-disk", "v1/space");
    showTiles();
  } catch { /* Its view tells why; the other tiles do without. */ }
}
function showShare() {
  if (forecast === null) return;
  const order = ["use", "choice", "wait", "held", "going", "odd"];
  const parts = forecast.holdings.filter((one) => one.images > 0)
    .sort((a, b) => order.indexOf(groupOf(a.reason)) - order.indexOf(groupOf(b.reason)));
  $("strip").replaceChildren(...parts.filter((one) => one.bytes > 0).map((one) => {
    const part = make("span", { class: `g-${groupOf(one.reason)}`, title: `${nameOf(one.reason)}: ${bytes(one.bytes)}` });
    part.style.flexGrow = one.bytes;
    return part;
  }));
  for (const one of parts) {
    // Reasons known only to a newer engine can be selected too.
    if ([...$("reason").options].every((option) => option.value !== one.reason)) $("reason").append(make("option", { value: one.reason }, nameOf(one.reason)));
  }
  const focused = document.activeElement?.dataset?.reason;
  $("legend").replaceChildren(...parts.map((one) => {
    const chip = make("button", { type: "button", class: "chip", "aria-pressed": view.reason === one.reason ? "true" : "false", "data-reason": one.reason },
      make("span", { class: `swatch g-${groupOf(one.reason)}`, "aria-hidden": "true" }), nameOf(one.reason),
      make("b", {}, bytes(one.bytes)), make("span", { class: "note" }, count(one.images)));
    chip.addEventListener("click", () => {
      $("reason").value = view.reason === one.reason ? "" : one.reason;
      $("action").value = "";
      takeFilters();
    });
    return chip;
  }));
  if (focused) [...$("legend").children].find((chip) => chip.dataset.reason === focused)?.focus();
}
