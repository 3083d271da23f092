  }
  source.addEventListener("dropped", () => setTimeout(listen, 1000));
}

$("action").append(make("option", { value: "" }, "Any action"), ...Object.entries(ACTIONS).map(([key, text]) => make("option", { value: key }, text[0].toUpperCase() + text.slice(1))));
$("reason").append(make("option", { value: "" }, "Any reason"), ...Object.entries(REASONS).map(([key, [, text]]) => make("option", { value: key }, text)));
$("q").value = view.q;
$("action").value = view.action;
$("reason").value = view.reason;
[view.action, view.reason] = [$("action").value, $("reason").value];
$("log").append(make("li", { class: "waiting" }, make("span", { class: "note" }, "nothing yet")));
look();
list();
listen();
setInterval(showTimes, 5000);
setInterval(() => { if (document.visibilityState === "visible") look(); }, 30000);
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") refresh(); });
