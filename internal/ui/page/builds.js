import { get, post } from "./api.js";
import { h, fill, ago, count, seconds } from "./dom.js";

export const states = { Completed: ["s-good", "Completed"], Error: ["s-bad", "Failed"], Running: ["s-run", "Running"], Canceled: ["s-warn", "Canceled"], Interrupted: ["s-warn", "Interrupted"] };

export function status(name) {
  const [mark, text] = states[name] ?? ["", name];
  return h("span", { class: `state ${mark}` }, h("i", { class: "dot", "aria-hidden": "true" }), text);
}

// took is how long a build took, or has taken at a time of the server's clock.
export function took(b, now) {
  if (b.completed) return seconds(new Date(b.completed) - new Date(b.started));
  return b.status === "Running" ? seconds(now - new Date(b.started)) : "";
}

// builds lists the builds that the store remembers, and looks for new ones while it is shown.
export async function builds(into, at, signal) {
  const body = h("tbody"), note = h("span", { class: "soft small" });
  let data, offset = 0, last = "";
  const search = h("input", { type: "search", placeholder: "Search builds", "aria-label": "Search builds", value: at.params.get("q") ?? "", oninput: draw });
  const table = h("div", { class: "card" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "Build"), h("th", {}, "Status"), h("th", { class: "wide" }, "Steps"), h("th", { class: "wide" }, "Started"), h("th", { class: "num" }, "Duration"))), body));
  const empty = h("div", { class: "card empty" }, h("b", {}, "No builds yet"), "Each ", h("code", {}, "mica build"), " appears here, while it runs and after.");

  async function load() {
    data = await get("builds", {}, {}, signal);
    offset = new Date(data.now) - Date.now();
    const now = JSON.stringify(data.builds);
    if (now === last && !data.builds.some((b) => b.status === "Running")) return;
    last = now;
    draw();
  }

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.builds.filter((b) => {
      const text = [b.name, b.ref, b.status, ...(b.names ?? [])].join(" ").toLowerCase();
      return words.every((w) => text.includes(w));
    });
    note.textContent = words.length ? `${found.length} of ${count(data.builds.length, "build")}` : count(data.builds.length, "build");
    table.hidden = data.builds.length === 0;
    empty.hidden = !table.hidden;
    const focused = body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    fill(body, found.map((b) => row(b, Date.now() + offset)));
    if (focused) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  }

  fill(into, h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, "Builds"), note), h("div", { class: "search" }, search)), table, empty);
  await load();
  const timer = setInterval(() => { if (!document.hidden) load().catch(() => {}); }, 2000);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function row(b, now) {
  const href = `#/build/${b.ref}`, ran = b.done - b.cached;
  return h("tr", { class: "go", onclick: (e) => { if (!e.target.closest("a")) location.hash = href; } },
    h("td", {}, h("a", { href, class: "name" }, b.name), h("div", { class: "small soft" }, h("code", {}, b.ref.slice(0, 12)), (b.names ?? []).map((n) => [" ", h("span", { class: "chip" }, n)]))),
    h("td", {}, status(b.status)),
    h("td", { class: "wide soft small" }, h("span", { class: "share", "aria-hidden": "true" }, h("i", { style: { flex: ran } }), h("i", { class: "c", style: { flex: b.cached } }), h("i", { style: { flex: b.steps - b.done, background: "none" } })),
      `${ran} ran, ${b.cached} cached`),
    h("td", { class: "wide soft" }, ago(b.started)),
    h("td", { class: "num" }, took(b, now)));
}

export const remove = (ref) => post("builds/remove", { build: ref });
