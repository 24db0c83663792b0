import { get, url } from "./api.js";
import { h, fill, bytes, count, hue, short, say } from "./dom.js";
import { layerNames } from "./image.js";

const page = 1000; // files of a directory in one answer

// files shows the files of an image: of all layers, or what one layer changes.
export async function files(into, img, at, signal) {
  const names = layerNames(img);
  let layer = at.params.get("layer") ?? "", sort = at.params.get("sort") ?? "name", text = "";
  const grid = h("div", { class: "tree", role: "treegrid", "aria-label": "Files" });
  const select = h("select", { "aria-label": "Layer", onchange: () => { layer = select.value; load(); } },
    h("option", { value: "" }, "All layers"),
    names.map((n, i) => h("option", { value: String(i), selected: String(i) === layer }, `${i + 1}: ${n}`.slice(0, 80))));
  const search = h("input", { type: "search", placeholder: "Search files", "aria-label": "Search files", oninput: later(() => { text = search.value.trim(); load(); }) });
  const bySize = h("button", { type: "button", "aria-pressed": sort === "size", onclick: () => { sort = "size"; load(); } }, "Size");
  const byName = h("button", { type: "button", onclick: () => { sort = "name"; load(); } }, "Name");
  const note = h("span", { class: "soft small" });

  const ask = (path, from) => get("files", { image: img.ref, layer, sort, from: from || undefined }, { path }, signal);

  async function load() {
    bySize.setAttribute("aria-pressed", sort === "size");
    byName.setAttribute("aria-pressed", sort === "name");
    try {
      const mine = [layer, sort, text].join("\n");
      const data = text ? await get("search", { image: img.ref, layer, text }, {}, signal) : await ask("");
      if (mine !== [layer, sort, text].join("\n")) return;
      fill(grid, header(layer), data.files.map((f) => row(f, 1)), !text && more(data, "", 1, data.files.length));
      note.textContent = text ? (data.total > data.files.length ? `the first ${data.files.length} of ${count(data.total, "file")}` : count(data.total, "file")) : "";
      if (text) say(note.textContent);
      const first = grid.querySelector("[role=row]:not(.th)");
      if (first) first.tabIndex = 0;
      else grid.append(h("p", { class: "empty" }, text ? "No file has such a name." : "There are no files here."));
    } catch (err) {
      if (!signal.aborted) fill(grid, h("div", { class: "notice bad", role: "alert" }, err.message));
    }
  }

  function row(f, depth) {
    const dir = f.kids, change = f.change || (layer !== "" && f.type === "dir" ? "" : f.change);
    const r = h("div", {
      role: "row", tabindex: "-1", "aria-level": depth, "aria-expanded": dir ? "false" : undefined, style: { "--depth": depth - 1 },
      class: [f.type === "dir" ? "dir" : "", change && `c-${change}`].join(" "),
      onclick: (e) => { if (!e.target.closest("a") && dir) toggle(r); focusRow(r); },
    },
      h("div", { class: "file", role: "gridcell" },
        h("span", { class: "twist", "aria-hidden": "true" }, dir ? "▶" : ""),
        h("span", { class: "label", title: f.name }, f.name + (f.type === "dir" && f.name !== "/" ? "/" : ""),
          f.link && h("span", { class: "link" }, f.type === "symlink" ? " → " : " = ", f.link)),
        change && h("span", { class: "unseen" }, ` (${change})`)),
      h("div", { role: "gridcell", class: "num" }, f.type === "removed" ? "" : bytes(f.size)),
      h("div", { role: "gridcell", class: "mode mono soft" }, f.type === "removed" ? "" : f.mode),
      h("div", { role: "gridcell", class: "owner soft num" }, f.type === "removed" ? "" : f.owner),
      h("div", { role: "gridcell", class: "from soft small cut" },
        layer === "" ? f.type === "dir" ? count(f.files ?? 0, "file") : [h("i", { class: "swatch", style: { "--hue": hue(f.layer) } }), `layer ${f.layer + 1}`] : change || (f.type === "dir" ? count(f.files ?? 0, "file") : "")));
    r.file = f;
    return r;
  }

  function more(data, path, depth, shown) {
    if (data.total <= shown) return null;
    const b = h("button", {
      type: "button", class: "quiet", onclick: async () => {
        const next = await ask(path, shown);
        const rows = next.files.map((f) => row(f, depth));
        b.parentElement.replaceWith(...rows, ...[more(next, path, depth, shown + next.files.length)].filter(Boolean));
        if (rows[0]) focusRow(rows[0]);
      },
    }, `Show ${Math.min(page, data.total - shown)} more of ${count(data.total, "file")}`);
    return h("div", { class: "more", role: "row", "aria-level": depth }, h("div", { role: "gridcell" }, b));
  }

  const level = (r) => Number(r.getAttribute("aria-level"));

  async function toggle(r) {
    const open = r.getAttribute("aria-expanded");
    if (open === null) return;
    r.setAttribute("aria-expanded", open === "true" ? "false" : "true");
    if (open === "true") {
      while (r.nextElementSibling && level(r.nextElementSibling) > level(r)) r.nextElementSibling.remove();
      return;
    }
    try {
      const data = await ask(r.file.path);
      if (r.getAttribute("aria-expanded") !== "true" || (r.nextElementSibling && level(r.nextElementSibling) > level(r))) return;
      r.after(...data.files.map((f) => row(f, level(r) + 1)), ...[more(data, r.file.path, level(r) + 1, data.files.length)].filter(Boolean));
    } catch (err) {
      if (!signal.aborted) r.after(h("div", { class: "notice bad", role: "alert", "aria-level": level(r) + 1 }, err.message));
    }
  }

  function focusRow(r) {
    grid.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
    r.tabIndex = 0;
    r.focus();
  }

  const rows = () => [...grid.querySelectorAll("[role=row][tabindex]")];
  grid.addEventListener("keydown", (e) => {
    const r = e.target;
    if (!r.file) return;
    const all = rows(), i = all.indexOf(r);
    const open = r.getAttribute("aria-expanded");
    let to;
    switch (e.key) {
      case "ArrowDown": to = all[i + 1]; break;
      case "ArrowUp": to = all[i - 1]; break;
      case "Home": to = all[0]; break;
      case "End": to = all.at(-1); break;
      case "PageDown": to = all[Math.min(all.length - 1, i + 20)]; break;
      case "PageUp": to = all[Math.max(0, i - 20)]; break;
      case "ArrowRight": if (open === "false") toggle(r); else if (open === "true") to = all[i + 1]; break;
      case "ArrowLeft": if (open === "true") toggle(r); else to = all.slice(0, i).reverse().find((x) => level(x) < level(r)); break;
      case "Enter": if (r.file.type === "file" && !e.ctrlKey) download(r.file); else toggle(r); break;
      case " ": toggle(r); break;
      default: return;
    }
    e.preventDefault();
    if (to) focusRow(to);
  });
  grid.addEventListener("dblclick", (e) => {
    const r = e.target.closest("[role=row]");
    if (r?.file?.type === "file") download(r.file);
  });

  function download(f) {
    const a = h("a", { href: url("content", { image: img.ref }, { path: f.path }), download: "" });
    document.body.append(a);
    a.click();
    a.remove();
    say(`download of ${f.name}`);
  }

  fill(into, h("section", { class: "card" },
    h("div", { class: "tools" }, select, search, note, h("span", { class: "grow" }), h("span", { class: "soft small" }, "sorted by"),
      h("div", { class: "segments", role: "group", "aria-label": "Order" }, byName, bySize)),
    grid,
    h("p", { class: "soft small pad" }, "Arrow keys move and open directories; Enter, or a double click, downloads a file.")));
  await load();
}

function header(layer) {
  return h("div", { role: "row", class: "th" }, h("div", { role: "columnheader" }, "Name"), h("div", { role: "columnheader", class: "num" }, "Size"),
    h("div", { role: "columnheader", class: "mode" }, "Mode"), h("div", { role: "columnheader", class: "owner num" }, "Owner"), h("div", { role: "columnheader", class: "from" }, layer === "" ? "From" : "Change"));
}

// later calls f when nobody has called it for a moment.
export function later(f) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(f, 180); };
}
