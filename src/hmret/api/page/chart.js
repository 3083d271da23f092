// The chart.
let chosen = -1;
function step(largest) {
  if (largest <= 0) return 1024 ** 3;
  const unit = 1024 ** Math.min(Math.floor(Math.log2(largest) / 10), 5);
  for (const factor of [0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]) if (largest / (factor * unit) <= 4) return factor * unit;
  return 2000 * unit;
}
function dayText(day, place) {
  const name = dayName(day.date, { weekday: "short", day: "numeric", month: "short" });
  return `${place === 0 ? "Today and overdue" : name}: ${bytes(day.bytes)}, ${images(day.images)}`;
}
function showChart() {
  if (forecast === null) return;
  const svg = $("bars");
  const width = svg.clientWidth || 700;
  const [height, left, bottom, top] = [240, 62, 24, 12];
  const days = forecast.days;
  const largest = Math.max(0, ...days.map((day) => day.bytes));
  const each = step(largest);
  const end = Math.max(1, Math.ceil(largest / each)) * each;
  const y = (value) => height - bottom - (value / end) * (height - bottom - top);
  const slot = (width - left) / Math.max(days.length, 1);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const parts = [];
  for (let value = 0; value <= end; value += each) {
    parts.push(draw("line", { class: value === 0 ? "grid base" : "grid", x1: left, x2: width, y1: y(value), y2: y(value) }));
    parts.push(draw("text", { x: left - 10, y: y(value) + 4, "text-anchor": "end" }, value === 0 ? "0" : bytes(value).replace(".0 ", " ")));
  }
  const every = Math.max(1, Math.ceil(64 / slot));
  days.forEach((day, place) => {
    const x = left + place * slot;
    const tall = day.bytes > 0 ? Math.max(height - bottom - y(day.bytes), 2) : 0;
    const group = draw("g", { class: place === chosen ? "slot on" : "slot" },
      draw("rect", { class: "hit", x, y: top, width: slot, height: height - bottom - top }),
      draw("rect", { class: place === 0 ? "fill first" : "fill", x: x + slot * 0.14, width: slot * 0.72, y: height - bottom - tall, height: tall, rx: Math.min(2, tall / 2) }));
    group.addEventListener("pointerenter", () => choose(place));
    parts.push(group);
    if (place % every === 0) {
      const isLast = x + slot / 2 > width - 20;
      parts.push(draw("text", { x: isLast ? width : x + slot / 2, y: height - 6, "text-anchor": isLast ? "end" : "middle" }, place === 0 ? "today" : dayName(day.date, { day: "numeric", month: "short" })));
    }
  });
  if (largest === 0) parts.push(draw("text", { x: left + (width - left) / 2, y: height / 2, "text-anchor": "middle" }, "Nothing expires within these days"));
  svg.replaceChildren(...parts);
  $("spans").replaceChildren(...Object.entries(forecast.within).map(([name, value]) =>
    make("span", {}, `${{ "24h": "24 hours", "7d": "7 days", "30d": "30 days" }[name] ?? name} `, make("b", {}, bytes(value)))));
  $("days").replaceChildren(...days.map((day, place) => make("tr", {},
    make("td", {}, place === 0 ? `${day.date} and before` : day.date), make("td", { class: "num" }, count(day.images)), make("td", { class: "num" }, bytes(day.bytes)))));
  if (chosen >= 0) choose(chosen);
}
function choose(place) {
  const slots = $("bars").querySelectorAll(".slot");
  slots.forEach((one, index) => one.classList.toggle("on", index === place));
  chosen = slots[place] ? place : -1;
  const tip = $("tip");
  tip.hidden = chosen < 0;
  if (chosen < 0) return;
  const text = dayText(forecast.days[place], place);
  tip.textContent = text;
  const box = slots[place].querySelector(".fill").getBoundingClientRect();
  const frame = $("chart").getBoundingClientRect();
  const half = tip.offsetWidth / 2;
  tip.style.left = `${Math.min(Math.max(box.left + box.width / 2 - frame.left, half + 4), frame.width - half - 4)}px`;
  tip.style.top = `${Math.max(box.top - frame.top - 7, tip.offsetHeight + 2)}px`;
  if (document.activeElement === $("bars")) $("bar-text").textContent = text;
}
$("bars").addEventListener("pointerleave", () => { if (document.activeElement !== $("bars")) choose(-1); });
$("bars").addEventListener("focus", () => { if ($("bars").matches(":focus-visible")) choose(Math.max(chosen, 0)); });
$("bars").addEventListener("blur", () => choose(-1));
$("bars").addEventListener("keydown", (event) => {
  const last = (forecast?.days.length ?? 0) - 1;
  const to = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  choose(Math.min(Math.max(to, 0), last));
});
new ResizeObserver(() => showChart()).observe($("chart"));
