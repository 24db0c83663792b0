import { get } from "./api.js";
import { h, fill, bytes, count, hue, say } from "./dom.js";
import { layerNames } from "./image.js";

// sizes shows what takes the space of an image, as rectangles.
export async function sizes(into, img, at, signal) {
  const names = layerNames(img);
  let by = at.params.get("by") === "layer" ? "layer" : "directory";
  let trail = [{ name: "/", path: "" }], layer = "";
  const map = h("div", { class: "map", role: "group", "aria-label": "Sizes. Arrow keys move, Enter zooms in, Backspace zooms out." });
  const crumbs = h("nav", { class: "small", "aria-label": "Place" }), total = h("span", { class: "soft small" });
  const buttons = ["directory", "layer"].map((name) => h("button", { type: "button", onclick: () => { by = name; layer = ""; trail = trail.slice(0, 1); load(); } }, "By " + name));
  const legend = h("div", { class: "legend" });
  let root;

  async function load(focus) {
    buttons.forEach((b, i) => b.setAttribute("aria-pressed", by === ["directory", "layer"][i]));
    const zoomed = by === "layer" && layer !== "";
    root = await get("sizes", { image: img.ref, by: by === "layer" && !zoomed ? "layer" : undefined, layer: zoomed ? layer : undefined }, { path: trail.at(-1).path }, signal);
    const places = [...(by === "layer" ? [{ name: "All layers", out: true }] : []), ...(by === "layer" && !zoomed ? [] : trail)];
    fill(crumbs, places.map((t, i) => [i > 0 && h("span", { class: "soft" }, " › "),
      i === places.length - 1 ? h("b", {}, label(t)) : h("a", { href: location.hash, onclick: (e) => { e.preventDefault(); back(t, i); } }, label(t))]));
    total.textContent = `${bytes(root.size)} in ${count(root.files, "file")}`;
    say(total.textContent);
    draw();
    if (focus) map.querySelector("button")?.focus();
  }

  const label = (t) => (t.path === "" && layer !== "" ? `layer ${Number(layer) + 1}` : t.name);

  function back(t, i) {
    if (t.out) { layer = ""; trail = trail.slice(0, 1); }
    else trail = trail.slice(0, by === "layer" ? i : i + 1);
    load(true);
  }

  function zoom(b) {
    if (by === "layer" && layer === "") layer = String(b.layer);
    else if (b.dir && b.path !== "") trail.push({ name: b.name, path: b.path });
    else return;
    load(true);
  }

  function out() {
    if (trail.length > 1) trail.pop();
    else if (layer !== "") layer = "";
    else return;
    load(true);
  }

  function draw() {
    fill(map);
    const box = map.getBoundingClientRect();
    if (!root.size) { map.append(h("p", { class: "empty" }, "There is nothing here.")); return; }
    place(root.kids ?? [], { x: 0, y: 0, w: box.width, h: box.height }, 0);
    const first = map.querySelector("button");
    if (first) first.tabIndex = 0;
    const used = new Set();
    for (const b of map.querySelectorAll("button")) used.add(b.block.layer);
    fill(legend, [...used].sort((a, b) => a - b).map((i) => h("span", { title: names[i] }, h("i", { class: "swatch", style: { "--hue": hue(i) } }), h("span", { class: "cut" }, `${i + 1}: ${names[i] ?? ""}`))));
  }

  function place(kids, box, depth) {
    squarify(kids.filter((k) => k.size > 0).sort((x, y) => y.size - x.size), box, (b, r) => {
      if (r.w < 3 || r.h < 3) return;
      const title = by === "layer" && layer === "" && depth === 0 ? `${b.name}: ${names[b.layer]}` : b.name + (b.dir ? "/" : "");
      const e = h("button", {
        type: "button", tabindex: "-1", class: b.dir && b.path !== "" || depth === 0 && b.dir ? "in" : "", "aria-label": `${title}, ${bytes(b.size)}, ${count(b.files, "file")}`, title: `${title}\n${bytes(b.size)}`,
        style: { left: r.x + "px", top: r.y + "px", width: r.w + "px", height: r.h + "px", "--hue": hue(b.layer), "--tint": `${[28, 42, 54][depth] ?? 60}%` },
        onclick: (ev) => { ev.stopPropagation(); zoom(b); },
      });
      e.block = b;
      if (r.w > 44 && r.h > 18) e.append(h("b", {}, title));
      const inner = { x: r.x + 3, y: r.y + 19, w: r.w - 6, h: r.h - 22 };
      const deeper = b.kids?.length && inner.w > 30 && inner.h > 22;
      if (!deeper && r.w > 60 && r.h > 36) e.append(h("span", {}, bytes(b.size)));
      map.append(e);
      if (deeper) place(b.kids, inner, depth + 1);
    });
  }

  map.addEventListener("keydown", (e) => {
    const all = [...map.querySelectorAll("button")], i = all.indexOf(e.target);
    if (e.key === "Backspace" || e.key === "Escape") { e.preventDefault(); out(); return; }
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (!step || !all[i + step]) return;
    e.preventDefault();
    e.target.tabIndex = -1;
    all[i + step].tabIndex = 0;
    all[i + step].focus();
  });

  fill(into, h("section", { class: "card" },
    h("div", { class: "tools" }, crumbs, total, h("span", { class: "grow" }), h("div", { class: "segments", role: "group", "aria-label": "Grouping" }, buttons)),
    map, legend));
  const watch = new ResizeObserver(() => { if (root) draw(); });
  watch.observe(map);
  signal.addEventListener("abort", () => watch.disconnect());
  await load();
}

// squarify fills a box with rectangles as near to squares as can be (Bruls, Huizing, van Wijk). Items come largest first.
function squarify(items, box, put) {
  let { x, y, w, h: height } = box, rest = items.slice();
  let total = rest.reduce((sum, i) => sum + i.size, 0);
  while (rest.length && w > 0 && height > 0) {
    const side = Math.min(w, height), scale = (w * height) / total;
    let row = [], sum = 0, worst = Infinity;
    for (const item of rest) {
      const next = sum + item.size, length = (next * scale) / side;
      const ratio = Math.max(...[...row, item].map((i) => { const other = (i.size * scale) / length; return Math.max(length / other, other / length); }));
      if (ratio > worst) break;
      row.push(item); sum = next; worst = ratio;
    }
    const length = (sum * scale) / side;
    let at = 0;
    for (const item of row) {
      const part = (item.size * scale) / length;
      put(item, w >= height ? { x, y: y + at, w: length, h: part } : { x: x + at, y, w: part, h: length });
      at += part;
    }
    if (w >= height) { x += length; w -= length; } else { y += length; height -= length; }
    rest = rest.slice(row.length);
    total -= sum;
  }
}
