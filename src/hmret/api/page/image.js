// One image: all that is known about it.
const imageLink = (repository, digest, text = null) => linkTo({ image: `${repository}@${digest}` }, text ?? `${repository}@${digest.slice(0, 19)}`, "wrap");
const tagsOf = (image) => image.tags.length ? image.tags.map((tag) => make("span", { class: "tag mono" }, tag)) : [make("span", { class: "note" }, "untagged")];
function leaseText(lease) {
  const end = lease.expires_at ? `until ${instant(lease.expires_at)}` : "until its holder ends it";
  return `${lease.owner || "no owner given"}: ${lease.reason || "no reason given"}, ${end}`;
}
// The facts that the list knows, and those that only an explanation has; `known`: it, null: it has not come.
function imageFacts(image, known, names) {
  const called_ = (source) => (names[source] ? `${names[source]} (${source})` : source);
  const lines = (texts) => texts.map((text) => make("span", { class: "line" }, text));
  const stays = STAYS.has(image.reason);
  return facts(
    ["Image", make("code", {}, `${image.repository}@${image.digest}`)],
    ["Tags", ...tagsOf(image)],
    ["State", ...reasonText(image)],
    ["Status", image.status],
    ["Size", `${bytes(image.size_bytes)}; ${bytes(image.disk_bytes)} on the disk`],
    known && (known.paths ?? []).length ? ["Path", ...known.paths.map((path) => make("code", { class: "line" }, path))] : null,
    image.shared_with.length ? ["Shared with", `${image.shared_with.join(", ")}: they share the content, which is deleted once it is due in all of them`] : null,
    ["Needed by", ...(image.referenced_by.length ? image.referenced_by.map((source) => make("span", { class: "line" }, linkTo({ view: "users", q: source }, called_(source)))) : ["nothing that is known"])],
    image.held_by.length ? ["Held by", image.held_by.map((one) => `${one.repository} (${nameOf(one.reason).toLowerCase()})`).join(", ")] : null,
    status?.fleet ? ["Elsewhere", image.copies_elsewhere === null ? "not asked: it does not go now" : `${count(image.copies_elsewhere)} ${image.copies_elsewhere === 1 ? "host holds a copy that counts" : "hosts hold copies that count"}`] : null,
    known && (known.leases ?? []).length ? ["Leased by", ...lines(known.leases.map(leaseText))] : null,
    ["Unused since", image.unused_since ? instant(image.unused_since) : "no timer"],
    ["Falls due", image.expires_at ? `${instant(image.expires_at)}${stays ? ", and stays all the same" : ""}` : "–"],
    known ? ["Rule", known.rule ? linkTo({ view: "policy" }, `rule ${known.rule}`) : "none: the general settings apply"] : null,
    known === null ? ["Holds it back", make("span", { class: "note" }, "loading …")]
      : ["Holds it back", ...(known.blockers.length ? lines(known.blockers.map(nameOf)) : ["nothing: the next sweep deletes it"])],
    known && known.detail ? ["More", known.detail] : null,
  );
}
loaders.image = () => {
  const named = place().given.get("image");
  return load("image", `v1/images/${named.split("/").map(encodeURIComponent).join("/")}`, (image) =>
    card("image-name", image.repository, image.tags.length ? image.tags.join(", ") : "untagged", imageFacts(image, image, image.vm_names)));
};
