// How full the disk is, what fills it, and what its limits would have go.
const SPACES = {
  unknown: "The disk cannot be measured", no_limit: "No limit is set", within: "No limit is exceeded", pressed: "Images are deleted to free space",
  held_up: "A limit is exceeded, and nothing may go now", out_of_reach: "The low mark is out of reach", futile: "Deletions free no space here",
};
const SPACE_PARTS = [["images", "Images", "s-images"], ["quarantine", "Quarantine", "s-quarantine"], ["trash", "Being erased", "s-trash"], ["other", "Everything else", "s-other"], ["available", "Free", "s-free"]];
let space = null;
const share = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toLocaleString("en", { maximumFractionDigits: 1 })} %` : "–");
function spaceBar() {
  const total = space.total_bytes;
  if (!total) return null;
  const parts = SPACE_PARTS.filter(([name]) => space[`${name}_bytes`] > 0).map(([name, , kind]) => {
    const part = make("span", { class: kind });
    part.style.flexGrow = space[`${name}_bytes`];
    return part;
  });
  const marks = [["high_bytes", "high"], ["low_bytes", "low"]].filter(([key]) => space[key] !== null).map(([key, name]) => {
    const mark = make("span", { class: "mark" }, make("span", {}, name));
    mark.style.left = `${(100 * space[key]) / total}%`;
    return mark;
  });
  return make("div", { class: "gauge", "aria-hidden": "true" }, make("div", { class: "strip" }, ...parts), ...marks);
}
function limitText(text, size) {
  return size === null ? text ?? "not set" : `${text?.endsWith("%") ? `${text}, ` : ""}${bytes(size)}`;
}
function distanceTo(size) {
  if (size === null || space.used_bytes === null) return "";
  const left = size - space.used_bytes;
  return `; ${bytes(Math.abs(left))} ${left >= 0 ? "below it" : "above it"}`;
}
loaders.disk = () => load("disk", "v1/space", (found) => {
  space = found;
  showTiles();
  const known = space.total_bytes !== null;
  const cacheBytes = space.images_bytes + space.quarantine_bytes;
  return card("space", SPACES[space.state] ?? plain(space.state), null,
    make("p", { class: "say" }, `${space.detail.charAt(0).toUpperCase()}${space.detail.slice(1)}.`),
    spaceBar(),
    make("ul", { class: "legend keys" }, ...SPACE_PARTS.filter(([name]) => space[`${name}_bytes`] !== null).map(([name, text, kind]) =>
      make("li", {}, make("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), text, " ", make("b", {}, bytes(space[`${name}_bytes`])), known ? make("span", { class: "note" }, share(space[`${name}_bytes`], space.total_bytes)) : null))),
    facts(
      ["In use", known ? `${bytes(space.used_bytes)} of ${bytes(space.total_bytes)}, ${share(space.used_bytes, space.total_bytes)}` : "not known"],
      ["High mark", `${limitText(space.high_watermark, space.high_bytes)}${distanceTo(space.high_bytes)}`],
      ["Low mark", `${limitText(space.low_watermark, space.low_bytes)}${distanceTo(space.low_bytes)}`],
      ["Most for images", `${limitText(space.max_used, space.max_used_bytes)}${space.max_used_bytes === null ? "" : `; ${bytes(cacheBytes)} are in use, quarantine included`}`],
      ["Has to come free", space.excess_bytes ? bytes(space.excess_bytes) : "nothing"],
      ["Goes for that", space.going_images ? images(space.going_images) : "no image"],
      space.retry_seconds === null ? null : ["Is tried again", inAbout(space.retry_seconds)],
    ));
});
