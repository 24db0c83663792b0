import { get } from "./api.js";
import { h, fill, bytes, ago, short, count } from "./dom.js";

// images lists the images of the store.
export async function images(into, at, signal) {
  const data = await get("images", {}, {}, signal);
  const most = Math.max(1, ...data.images.map((i) => i.size));
  const body = h("tbody"), note = h("span", { class: "soft small", "aria-live": "polite" });
  const search = h("input", { type: "search", placeholder: "Search images", "aria-label": "Search images", value: at.params.get("q") ?? "", oninput: draw });

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.images.filter((i) => {
      const text = [...i.names, ...i.digests, i.id, i.platform].join(" ").toLowerCase();
      return words.every((w) => text.includes(w));
    });
    note.textContent = words.length ? `${found.length} of ${count(data.images.length, "image")}` : count(data.images.length, "image");
    fill(body, found.map((i) => row(i, most)));
  }
  draw();
  fill(into,
    h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, "Images"), note), h("div", { class: "search" }, search, other())),
    data.warning && h("p", { class: "notice" }, data.warning),
    data.images.length === 0 ? h("div", { class: "card empty" }, h("b", {}, "No images yet"), "Build one with ", h("code", {}, "mica build -t name ."), " or get one with ", h("code", {}, "mica pull"), ".") :
      h("div", { class: "card" }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", {}, "Image"), h("th", { class: "wide" }, "Platform"), h("th", { class: "wide" }, "Created"), h("th", { class: "num wide" }, "Layers"), h("th", { class: "num" }, "Size"))),
        body)));
}

// other opens an image that is not in the list.
function other() {
  const name = h("input", { type: "text", placeholder: "Registry, archive, directory…", "aria-label": "Open another image", autocapitalize: "off", spellcheck: "false" });
  const open = (e) => {
    e.preventDefault();
    if (name.value.trim()) location.hash = `#/image/${encodeURIComponent(name.value.trim())}`;
  };
  return h("form", { class: "open", onsubmit: open }, name, h("button", { type: "submit" }, "Open"));
}

export const imageName = (i) => i.names[0] ?? i.digests[0] ?? short(i.id);

function row(i, most) {
  const href = `#/image/${short(i.id)}`;
  return h("tr", { class: "go", onclick: (e) => { if (!e.target.closest("a")) location.hash = href; } },
    h("td", {},
      h("a", { href, class: "name" }, imageName(i)),
      h("div", { class: "small soft" }, h("code", {}, short(i.id)), i.names.slice(1).map((n) => [" ", h("span", { class: "chip" }, n)]))),
    h("td", { class: "wide soft" }, i.platform),
    h("td", { class: "wide soft" }, ago(i.created)),
    h("td", { class: "num wide soft" }, i.layers),
    h("td", { class: "num" }, bytes(i.size), h("span", { class: "meter", "aria-hidden": "true" }, h("i", { style: { width: `${(100 * i.size) / most}%` } }))));
}
