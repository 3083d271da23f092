// Numbers and times for people.
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
function bytes(value) {
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) { value /= 1024; unit += 1; }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${UNITS[unit]}`;
}
const count = (value) => value.toLocaleString("en");
const images = (value) => `${count(value)} ${value === 1 ? "image" : "images"}`;
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
let ahead = 0; // How far the host's clock is ahead of ours, in milliseconds.
function distance(text) {
  const seconds = (Date.parse(text) - Date.now() - ahead) / 1000;
  const size = Math.abs(seconds);
  if (size < 90) return relative.format(Math.round(seconds), "second");
  if (size < 5400) return relative.format(Math.round(seconds / 60), "minute");
  if (size < 129600) return relative.format(Math.round(seconds / 3600), "hour");
  return relative.format(Math.round(seconds / 86400), "day");
}
const inAbout = (seconds) => (seconds < 5400 ? relative.format(Math.ceil(seconds / 60), "minute") : relative.format(Math.ceil(seconds / 3600), "hour"));
const instant = (text) => text.replace("T", " ").replace(/\.\d+/, "").replace("Z", " UTC");
function moment(text, extra = "") {
  if (!text) return make("span", { class: "note" }, "–");
  return make("time", { datetime: text, title: instant(text), class: extra }, distance(text));
}
const dayName = (text, options) => new Intl.DateTimeFormat("en", { timeZone: "UTC", ...options }).format(new Date(`${text}T00:00:00Z`));
