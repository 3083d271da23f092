// What lies in quarantine, who keeps what, repositories, and the policy.
loaders.quarantine = () => load("quarantine", "v1/quarantine", (held_) => {
  const total = held_.images.reduce((sum, one) => sum + one.disk_bytes, 0);
  return card("held", `${images(held_.images.length)} held, ${bytes(total)} not yet freed`, "a command brings one back, with its tags",
    table("Images in quarantine", [
      ["Image", (one) => [make("span", { class: "repo" }, one.repository), make("span", { class: "digest mono" }, one.digest.slice(0, 19)), ...tagsOf(one)]],
      ["On the disk", (one) => bytes(one.disk_bytes), "num"], ["Deleted", (one) => moment(one.retired_at)],
      ["Held until", (one) => [instant(one.until), make("span", { class: "shared" }, distance(one.until))]],
      ["Brought back by", (one) => make("code", { class: "wrap" }, one.command)],
    ], held_.images, { empty: "Nothing is in quarantine." }));
});

let usersShown = 100;
function keptImages(user) {
  const rows = user.images.map((one) => make("span", { class: "line" }, imageLink(one.repository, one.digest, `${one.repository}${one.tags.length ? `:${one.tags[0]}` : `@${one.digest.slice(7, 19)}`}`), ` ${bytes(one.disk_bytes)}`));
  if (user.total > user.images.length) rows.push(make("span", { class: "note" }, `and ${count(user.total - user.images.length)} more`));
  for (const name of user.missing) rows.push(make("span", { class: "line note" }, `${name}: not here`));
  return rows.length ? rows : [make("span", { class: "note" }, "none")];
}
function loadUsers(text) {
  load("user-rows", `v1/users?${new URLSearchParams({ q: text, limit: String(Math.min(usersShown, 1000)) })}`, (found) => [
    make("p", { class: "say", role: "status" }, text ? `${count(found.matched)} of ${count(found.total)} match.` : `${count(found.total)} VMs, snapshots and others need images.`),
    table("Who keeps what", [
      ["Who", (one) => one.name ? [make("span", { class: "repo" }, one.name), make("span", { class: "digest mono" }, one.user)] : make("span", { class: "repo" }, one.user)],
      ["Keeps", keptImages], ["Images", (one) => count(one.total), "num"],
    ], found.users, { empty: text ? "Nobody matches." : "Nobody needs an image." }),
    more(found, () => { usersShown += 200; loadUsers(text); }),
  ]);
}
loaders.users = () => {
  const text = place().given.get("q") ?? "";
  const field = $("user-q");
  if (field !== null && field !== document.activeElement) field.value = text;
  if (field === null) {
    $("users").replaceChildren(card("user-list", "VMs, snapshots and others", "by name or id",
      searchOf("user-q", "Search: name or id of a VM", text, (typed) => { keepPlace({ view: "users", q: typed }); loadUsers(typed); }),
      make("div", { id: "user-rows" })));
  }
  loadUsers(text);
  load("leases", "v1/leases", (granted) => card("lease-list", "Leases", "what clients have asked to keep", table("Leases", [
    ["Image", (one) => imageLink(one.repository, one.digest)], ["Owner", (one) => one.owner || "–"], ["Reason", (one) => one.reason || "–"],
    ["Ends", (one) => one.expires_at ? [instant(one.expires_at), make("span", { class: "shared" }, distance(one.expires_at))] : "with its holder"],
  ], granted.leases, { empty: "There is no lease." })));
};

let repositoriesShown = 100;
function rulesText(one) {
  const names = one.rules.map((number) => `rule ${number}`);
  if (one.unruled_images) names.push(one.rules.length ? "general" : "general settings");
  return names.join(", ");
}
function nextText(one) {
  if (one.next === null) return make("span", { class: "note" }, "nothing");
  return [imageLink(one.repository, one.next.digest, one.next.tags[0] ?? one.next.digest.slice(7, 19)), make("span", { class: "shared" }, `${nameOf(one.next.reason)}${one.next.expires_at ? `, ${distance(one.next.expires_at)}` : ""}`)];
}
function loadRepositories(values) {
  const { q, sort, order } = values;
  load("repository-rows", `v1/repositories?${new URLSearchParams({ q, sort, order, limit: String(Math.min(repositoriesShown, 1000)) })}`, (found) => [
    make("p", { class: "say", role: "status" }, q ? `${count(found.matched)} of ${count(found.total)} match.` : `${count(found.total)} repositories.`),
    table("Repositories", [
      ["Repository", (one) => make("a", { class: "wrap", href: `?${new URLSearchParams({ q: one.repository })}#view=overview` }, one.repository), "", "repository"],
      ["Images", (one) => count(one.images), "num", "images", "desc"],
      ["On the disk", (one) => [bytes(one.bytes), one.shared_bytes ? make("span", { class: "shared" }, `${bytes(one.shared_bytes)} shared`) : null], "num", "bytes", "desc"],
      ["Newest", (one) => moment(one.newest), "", "newest", "desc"], ["Rule", rulesText], ["Goes next", nextText, "", "next"],
    ], found.repositories, { sort: { key: sort, order }, onSort: (key, to) => openRepositories({ q, sort: key, order: to }), empty: q ? "No repository matches." : "The cache is empty." }),
    more(found, () => { repositoriesShown += 200; loadRepositories(values); }),
  ]);
}
function openRepositories(values) {
  keepPlace({ view: "repositories", ...values });
  loadRepositories(values);
}
loaders.repositories = () => {
  const { given } = place();
  const sort = ["repository", "images", "bytes", "newest", "next"].includes(given.get("sort")) ? given.get("sort") : "bytes";
  const values = { q: given.get("q") ?? "", sort, order: given.get("order") ?? (sort === "bytes" ? "desc" : "asc") };
  if (values.order !== "desc") values.order = "asc";
  const field = $("repository-q");
  if (field !== null && field !== document.activeElement) field.value = values.q;
  if (field === null) {
    $("repositories").replaceChildren(card("repository-list", "By repository", "shared content counts for each",
      searchOf("repository-q", "Search: part of a repository", values.q, (typed) => openRepositories({ ...now(), q: typed })), make("div", { id: "repository-rows" })));
  }
  const now = () => ({ sort: place().given.get("sort") ?? "bytes", order: place().given.get("order") ?? "desc" });
  loadRepositories(values);
};

let policy = null;
async function lookAtPolicy() {
  try {
    policy = await ask("policy-state", "v1/policy");
    showBanners();
  } catch { /* The view tells it, and so does the next look. */ }
}
const SOURCES = { default: "default", file: "file", environment: "environment", flag: "option", program: "the embedding program" };
function settingRows(label, settings) {
  return table(label, [
    ["Setting", (one) => [make("code", { class: "wrap" }, one.key), make("span", { class: "shared" }, one.description)]],
    ["Value", (one) => make("code", { class: "wrap lines" }, one.text || "unset")],
    ["Set in", (one) => one.where ?? SOURCES[one.source] ?? plain(one.source)],
  ], settings, { empty: "None." });
}
loaders.policy = () => load("policy", "v1/policy", (found) => {
  policy = found;
  showBanners();
  const chosen_ = found.settings.filter((one) => one.is_policy && one.source !== "default");
  const rest = found.settings.filter((one) => one.is_policy && one.source === "default");
  return [
    card("in-force", "In force", found.since ? `since ${instant(found.since)}` : null, facts(
      ["Config files", ...(found.config_files.length ? found.config_files.map((path) => make("code", { class: "line" }, path)) : ["none"])],
      ["Last reload", found.refused ? make("span", { class: "bad" }, `refused: ${found.refused}`) : "nothing was refused"],
      found.restart_needed.length ? ["Needs a restart", found.restart_needed.join(", ")] : null,
      ["Warnings", ...(found.warnings.length ? found.warnings.map((text) => make("span", { class: "line" }, text)) : ["none"])],
    )),
    card("policy-set", "What has been set", "window, rules, hours, limits, quarantine, brake", settingRows("Settings that were set", chosen_)),
    card("policy-usual", "Defaults", "what decides what is deleted, as it is if nothing is set", settingRows("Settings at their defaults", rest)),
    card("engine-set", "The engine's own", "they decide nothing about images", settingRows("The engine's own settings", found.settings.filter((one) => !one.is_policy))),
  ];
});
