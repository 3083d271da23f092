// What went, when and why; and what the last sweep did.
const reasonOf = (reason) => ({ expired: "window ended", disk_pressure: "to free space", finished: "finished after a crash", "": "–" })[reason] ?? plain(reason);
function showSweep() {
  const last = status?.last_sweep;
  if (!last || $("view-history").hidden) return;
  const kept = (forecast?.holdings ?? []).filter((one) => one.images > 0 && one.action !== "delete");
  put($("sweep"), card("last-sweep", "The last sweep", distance(last.started_at), facts(
    ["Began", instant(last.started_at)],
    ["Took", `${(last.duration_seconds ?? 0).toLocaleString("en", { maximumFractionDigits: 3 })} s`],
    ["Ended", plain(last.status)],
    ["Deleted", `${images(last.deleted_images ?? 0)}, ${bytes(last.deleted_bytes ?? 0)} freed${last.quarantined_images ? `; ${count(last.quarantined_images)} of them went into quarantine with ${bytes(last.quarantined_bytes)}` : ""}`],
    ["Timers", `${count(last.marked_unused ?? 0)} started, ${count(last.cleared_states ?? 0)} stopped`],
    ["Failed", ...(last.errors.length ? last.errors.map((one) => make("span", { class: "line bad" }, [one.repository ? `${one.repository}@${String(one.digest).slice(0, 19)}` : "", one.path, one.error].filter(Boolean).join(": "))) : ["nothing"])],
    ["Kept", ...(kept.length ? kept.map((one) => make("span", { class: "line" }, make("a", { href: `?${new URLSearchParams({ reason: one.reason })}#view=overview` }, nameOf(one.reason)), ` ${count(one.images)}, ${bytes(one.bytes)}`)) : ["–"])],
  )));
}
loaders.history = () => {
  showSweep();
  return load("history", "v1/history", (past) => {
    const since = past.begins_at ? `the journal begins ${past.begins_at.slice(0, 10)}` : "the journal is empty";
    const note = past.journal ? `by UTC day; ${since}` : "no journal is written: hmret.journal is false";
    const total = (events) => past.days.filter((row) => events.includes(row.event)).reduce((sum, row) => [sum[0] + row.images, sum[1] + row.bytes], [0, 0]);
    const [gone] = total(["delete", "recover"]);
    const freed = total(["delete", "recover", "release"])[1];
    return card("went", "What went in 30 days", note,
      make("p", { class: "say" }, `${images(gone)} deleted, ${bytes(freed)} freed.`, past.unreadable.length ? ` These files cannot be read: ${past.unreadable.join(", ")}.` : ""),
      table("What went in 30 days", [
        ["Day", (row) => row.date], ["What", (row) => WENT[row.event] ?? plain(row.event)], ["Why", (row) => reasonOf(row.reason)],
        ["Images", (row) => count(row.images), "num"], ["Freed", (row) => bytes(row.bytes), "num"],
      ], past.days, { empty: "Nothing went." }));
  });
};
