import { get } from "./api.js";
import { h, fill, bytes, count, short, say } from "./dom.js";
import { imageName } from "./images.js";
import { later } from "./files.js";

const signs = { added: "+", removed: "−", changed: "~" };
const atOnce = 300; // files that are shown at once

const sign = (change) => [h("span", { class: `sign d-${change}`, "aria-hidden": "true" }, signs[change] ?? " "), h("span", { class: "unseen" }, change ?? "same", " ")];

// compare shows how two images differ.
export async function compare(into, at, signal) {
  const { images } = await get("images", {}, {}, signal);
  const [a = "", b = ""] = at.args;
  const go = (x, y) => { location.hash = `#/compare/${encodeURIComponent(x)}/${encodeURIComponent(y)}`; };
  // An image of the store has its name in place of its ID.
  const named = (ref) => { const i = images.find((one) => ref && short(one.id) === ref); return i ? imageName(i) : ref; };
  const choice = (label, ref, pick) => {
    const name = h("input", { type: "text", list: "images", value: named(ref), placeholder: "Image, archive, directory…", autocapitalize: "off", spellcheck: "false", onchange: () => pick(name.value.trim()) });
    return h("label", {}, label, name);
  };
  const result = h("div", { class: "stack" });
  fill(into,
    h("div", { class: "head" }, h("h1", {}, "Compare")),
    h("div", { class: "stack" },
      h("section", { class: "card pad choose" }, h("datalist", { id: "images" }, images.map((i) => h("option", { value: imageName(i) }, short(i.id)))),
        choice("From", a, (v) => go(v, b)), h("button", { type: "button", onclick: () => go(b, a), "aria-label": "Swap the images" }, "⇄"), choice("To", b, (v) => go(a, v))),
      result));
  if (!a || !b) {
    fill(result, h("p", { class: "card empty" }, h("b", {}, "Choose two images"), "to see how their configurations, layers and files differ."));
    return;
  }
  const pair = { a, b };
  try {
    show(result, await get("diff", pair, {}, signal), pair, signal);
  } catch (err) {
    if (!signal.aborted) fill(result, h("div", { class: "notice bad", role: "alert" }, err.message));
  }
}

// change is a difference of sizes.
const change = (n) => (n < 0 ? "−" : n > 0 ? "+" : "±") + bytes(Math.abs(n));

function show(into, d, pair, signal) {
  if (d.same) {
    fill(into, h("p", { class: "card empty" }, h("b", {}, "No difference"), "Configuration, layers and files are the same, but for times."));
    return;
  }
  const f = d.files, layers = (change) => d.layers.filter((l) => l.change === change);
  const tile = (change, title, n, text) => h("section", { class: "card tile" }, h("h2", { class: `d-${change}` }, title), h("div", { class: "big" }, n.toLocaleString("en")), h("div", { class: "small soft" }, text));
  const delta = d.b.size - d.a.size;
  fill(into,
    h("div", { class: "tiles" },
      h("section", { class: "card tile" }, h("h2", { class: "soft" }, "Size"), h("div", { class: "big" }, change(delta)), h("div", { class: "small soft" }, `${bytes(d.a.size)} → ${bytes(d.b.size)}`)),
      tile("added", "Added", f.added.count, `files, ${bytes(f.added.size)}`), tile("removed", "Removed", f.removed.count, `files, ${bytes(f.removed.size)}`),
      tile("changed", "Changed", f.changed.count, `files, ${change(f.changed.size)}`)),
    d.notes?.map((n) => h("p", { class: "notice" }, n)),
    d.config?.length > 0 && h("section", { class: "card" }, h("div", { class: "title" }, h("h2", {}, "Configuration")), h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "Field"), h("th", {}, "From"), h("th", {}, "To"))),
      h("tbody", {}, d.config.map((c) => h("tr", {}, h("td", {}, sign(c.change), c.field, c.key && [" ", h("code", {}, c.key)]), h("td", {}, h("span", { class: "value" }, c.old ?? "")), h("td", {}, h("span", { class: "value" }, c.new ?? ""))))))),
    d.layers && h("section", { class: "card" }, h("div", { class: "title" }, h("h2", { class: "grow" }, "Layers"), h("span", { class: "soft small" }, `${count(layers(undefined).length, "layer")} shared, ${layers("removed").length} removed, ${layers("added").length} added`)),
      h("table", {}, h("tbody", {}, d.layers.map((l) => h("tr", {}, h("td", {}, sign(l.change), h("span", { class: `value ${l.change ? "" : "soft"}` }, l.command || short(l.diffID))), h("td", { class: "num soft" }, bytes(l.size))))))),
    d.files.changes.length > 0 && fileList(d, pair, signal));
}

function fileList(d, pair, signal) {
  const body = h("tbody"), note = h("span", { class: "soft small", "aria-live": "polite" }), more = h("div", { class: "pad" });
  const on = { added: true, removed: true, changed: true };
  let limit = atOnce;
  const search = h("input", { type: "search", placeholder: "Search files", "aria-label": "Search files", oninput: later(() => { limit = atOnce; draw(); }) });
  const buttons = Object.keys(on).map((name) => h("button", { type: "button", "aria-pressed": true, onclick: (e) => { on[name] = !on[name]; e.target.setAttribute("aria-pressed", on[name]); limit = atOnce; draw(); } }, name));

  function draw() {
    const text = search.value.trim().toLowerCase();
    const found = d.files.changes.filter((c) => on[c.change] && c.path.toLowerCase().includes(text));
    note.textContent = `${found.length.toLocaleString("en")} of ${d.files.total.toLocaleString("en")}` + (d.files.total > d.files.changes.length ? ` (the first ${d.files.changes.length.toLocaleString("en")} can be shown)` : "");
    fill(body, found.slice(0, limit).map((c) => row(c, pair, signal)));
    fill(more, found.length > limit && h("button", { type: "button", onclick: () => { limit += 1000; draw(); } }, "Show more"));
    more.hidden = found.length <= limit;
  }
  draw();
  return h("section", { class: "card" },
    h("div", { class: "tools" }, h("h2", {}, "Files"), note, h("span", { class: "grow" }), h("div", { class: "segments", role: "group", "aria-label": "Kinds of differences" }, buttons), search),
    h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Path"), h("th", { class: "wide" }, "What"), h("th", { class: "num" }, "Size"))), body), more);
}

function row(c, pair, signal) {
  const side = c.new ?? c.old, holder = h("div");
  const text = c.change === "changed" && c.aspects?.includes("content") && c.old.type === "file" && c.new.type === "file";
  const button = text && h("button", { type: "button", class: "small", "aria-expanded": false, "aria-label": `Text of ${c.path}`, onclick: toggle }, "text");

  async function toggle() {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", !open);
    fill(holder);
    if (open) return;
    try {
      const t = await get("difftext", pair, { path: c.ref }, signal);
      fill(holder, t.text ? h("pre", { class: "diff", tabindex: "0", "aria-label": `Difference of ${c.path}` }, t.text.split("\n").map((line) => h("span", { class: line.startsWith("+") ? "d-added" : line.startsWith("-") ? "d-removed" : "" }, line + (/^[+-]/.test(line) ? "" : "\n")))) :
        h("p", { class: "small soft" }, t.none || "no text"));
      say(t.text ? "shown" : t.none);
    } catch (err) {
      if (!signal.aborted) fill(holder, h("p", { class: "notice bad", role: "alert" }, err.message));
    }
  }

  return h("tr", {},
    h("td", {}, sign(c.change), h("span", { class: "path" }, c.path + (side.type === "dir" ? "/" : "")), side.target && h("span", { class: "soft small" }, " → ", side.target), " ", button, holder),
    h("td", { class: "wide small soft" }, c.change === "changed" ? c.aspects.map((a) => h("div", {}, a, detail(a, c))) : side.type),
    h("td", { class: "num" }, side.type === "file" ? (c.change === "changed" && c.old.size !== c.new.size ? `${bytes(c.old.size)} → ${bytes(c.new.size)}` : bytes(side.size)) : ""));
}

function detail(aspect, c) {
  if (aspect === "mode") return ` ${c.old.mode} → ${c.new.mode}`;
  if (aspect === "owner") return ` ${c.old.uid}:${c.old.gid} → ${c.new.uid}:${c.new.gid}`;
  if (aspect === "type") return ` ${c.old.type} → ${c.new.type}`;
  if (aspect === "target") return ` ${c.old.target} → ${c.new.target}`;
  if (aspect === "content" && c.old.digest && c.new.digest) return ` ${short(c.old.digest)} → ${short(c.new.digest)}`;
  return "";
}
