const PAGE = 100;
// For the filter, in the words of the documents; of one image, `actionOf` tells more.
const ACTIONS = { delete: "delete", mark: "start timer", clear: "keep, without a timer", none: "keep" };
const actionOf = (image) => image.action === "clear" ? (image.unused_since ? "stop timer" : "keep") : ACTIONS[image.action] ?? plain(image.action);
const REASONS = {
  referenced: ["use", "In use"], leased: ["use", "Leased"], open: ["use", "Disk open"],
  pinned: ["choice", "Pinned"], not_allowed: ["choice", "Not allowed"], not_pullable: ["choice", "Cannot be pulled again"],
  kept_by_rule: ["choice", "Kept by a rule"], latest: ["choice", "Among the newest"],
  newly_unused: ["wait", "Newly unused"], retention_window: ["wait", "Timer runs"], too_young: ["wait", "Too young"],
  shared: ["held", "Due, held by another"], suspended: ["held", "Due, suspended"], backoff: ["held", "Due, retried later"], brake: ["held", "Due, held by the brake"],
  outside_window: ["held", "Due, outside the hours"],
  duplicate_host: ["held", "Due, another host has its place"], fleet_unreachable: ["held", "Due, fleet not reachable"], fleet_paused: ["held", "Due, fleet paused"],
  last_copy: ["held", "Due, last copy"], used_in_fleet: ["held", "Due, used in the fleet"], fleet_brake: ["held", "Due, no deletion token"],
  deferred: ["held", "Due, deferred"],
  expired: ["going", "Due"], disk_pressure: ["going", "Deleted to free space"], not_ready: ["odd", "Not ready"], broken: ["odd", "Broken"],
};
const CAUSES = {
  unreadable_reference: "A reference cannot be read", clock_jump: "The clock has jumped",
  unreadable_cache: "A part of the cache cannot be listed",
  lost_references: "Guests or snapshots are lost", lost_images: "Images are lost",
  leases_broken: "A rename breaks leases on open disks",
};
const COLUMNS = [
  ["repository", "Image", "asc"], ["reason", "State", "asc"], [null, "Needed by"], ["disk_bytes", "On the disk", "desc", "num"],
  ["unused_since", "Unused since", "asc"], ["goes_at", "Falls due", "asc"],
];
// Only of a host in a fleet.
const ELSEWHERE = [null, "Elsewhere", null, "num"];
const FLEET_STATES = { joined: "joined", joining: "joining", unreachable: "no contact", not_initialised: "not created", rolled_back: "restored", duplicate_host: "duplicate", stopped: "stopped" };
// What stays as it is wanted, however long ago its window has ended.
const STAYS = new Set(["kept_by_rule", "latest", "pinned", "not_allowed", "not_pullable", "referenced", "leased", "open"]);
const WENT = { delete: "deleted", release: "left the quarantine", restore: "restored", recover: "interrupted deletion" };
const plain = (text) => String(text).replaceAll("_", " ");
const groupOf = (reason) => (Object.hasOwn(REASONS, reason) ? REASONS[reason][0] : "odd");
const nameOf = (reason) => (Object.hasOwn(REASONS, reason) ? REASONS[reason][1] : plain(reason));
