import { get } from "./api.js";
import { h, fill } from "./dom.js";
import { images } from "./images.js";
import { image } from "./image.js";
import { builds } from "./builds.js";
import { build } from "./build.js";
import { compare } from "./compare.js";
import { cache } from "./cache.js";

// The views by the first part of the address. A view fills an element; what it starts ends with the signal.
const views = { images, image, builds, build, compare, cache };
const sections = { images: "images", image: "images", builds: "builds", build: "builds", compare: "compare", cache: "cache" };
const main = document.getElementById("main");
let current = new AbortController();
let shown = "";

// parse reads an address: #/view/argument/argument?parameters.
function parse() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...args] = path.split("/").map(decode);
  return { view: view || "images", args, params: new URLSearchParams(query ?? "") };
}

function decode(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

async function show() {
  if (location.hash === "#main") return;
  const at = parse();
  current.abort();
  current = new AbortController();
  const signal = current.signal;
  for (const a of document.querySelectorAll("#nav a")) {
    if (a.getAttribute("href") === "#/" + sections[at.view]) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  const place = [at.view, at.args[0]].join("/"), moved = place !== shown;
  shown = place;
  const into = h("div");
  main.setAttribute("aria-busy", "true");
  try {
    if (!views[at.view]) throw new Error("there is no such page");
    await views[at.view](into, at, signal);
  } catch (err) {
    if (signal.aborted) return;
    fill(into, problem(err));
  }
  if (signal.aborted) return;
  fill(main, into);
  main.setAttribute("aria-busy", "false");
  main.dataset.shows = location.hash;
  const title = into.querySelector("h1")?.textContent;
  document.title = title ? `${title} · mica` : "mica";
  if (moved) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

export function problem(err) {
  return h("div", { class: "notice bad", role: "alert" }, err.message);
}

// The theme: that of the system, or the one chosen.
const themes = { "": "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
const icons = { "": "◐", light: "☀", dark: "☾" };
const button = document.getElementById("theme");

function applyTheme(name) {
  document.documentElement.style.colorScheme = name || "light dark";
  button.textContent = icons[name];
  button.setAttribute("aria-label", themes[name]);
  button.title = themes[name];
}

let theme = localStorage.getItem("theme") ?? "";
if (!(theme in themes)) theme = "";
applyTheme(theme);
button.addEventListener("click", () => {
  const order = Object.keys(themes);
  theme = order[(order.indexOf(theme) + 1) % order.length];
  localStorage.setItem("theme", theme);
  applyTheme(theme);
});

document.querySelector(".skip").addEventListener("click", (e) => {
  e.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
get("info").then((i) => { document.getElementById("foot").textContent = `mica ${i.version} · ${i.store}`; }).catch(() => {});
show();
