import { get, url } from "./api.js";
import { h, fill, bytes, count, hue } from "./dom.js";

const hows = { overwritten: "overwritten by", rewritten: "rewritten by", removed: "removed by" };

// analysis shows what an image wastes, and what was left in it, as mica analyze finds it.
export async function analysis(into, img, at, signal) {
  const r = await get("analysis", { image: img.ref }, {}, signal);
  const step = (n) => r.steps[n - 1];
  const swatch = (n) => step(n)?.layer >= 0 && h("i", { class: "swatch", style: { "--hue": hue(step(n).layer) } });
  const named = (n) => [swatch(n), step(n)?.instruction ?? ""];
  const tile = (title, big, text, part) => h("section", { class: "card tile" }, h("h2", { class: "soft" }, title), h("div", { class: "big" }, big),
    part !== undefined && h("span", { class: "meter", "aria-hidden": "true" }, h("i", { style: { width: `${100 * part}%` } })), h("div", { class: "small soft" }, text));
  const card = (title, note, body) => h("section", { class: "card" }, h("div", { class: "title" }, h("h2", { class: "grow" }, title), h("span", { class: "soft small" }, note)), body);

  fill(into, h("div", { class: "stack" },
    h("div", { class: "tiles" },
      tile("Efficiency", r.efficiency, `${bytes(r.size)} in ${count(r.files, "file")}`, r.ratio),
      tile("Wasted", bytes(r.wasted.bytes), `${count(r.wasted.files, "file")} in layers that the image no longer has`),
      tile("Duplicates", bytes(r.duplicates.bytes), `${count(r.duplicates.files, "copy", "copies")} of files that the image has already`)),
    card("Findings", r.secretsUnread ? `${count(r.secretsUnread, "file")} were not searched for secrets` : "", r.findings.length ?
      h("ul", { class: "findings" }, r.findings.map((f) => h("li", {},
        h("span", { class: `kind k-${f.kind}` }, f.kind),
        h("div", {}, h("div", {}, f.text), f.path && h("div", { class: "path small mono" }, f.path), h("div", { class: "small soft" }, f.advice), f.step > 0 && h("div", { class: "small soft mono cut", title: step(f.step)?.instruction }, named(f.step))),
        h("span", { class: "num soft" }, f.bytes ? bytes(f.bytes) : "")))) :
      h("p", { class: "empty" }, "Nothing was found to change.")),
    r.waste.length > 0 && card("Wasted paths", "", h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "Path"), h("th", { class: "wide" }, "How"), h("th", { class: "num" }, "Size"))),
      h("tbody", {}, r.waste.map((w) => h("tr", {},
        h("td", {}, h("div", { class: "path" }, w.path), w.files > 1 && h("div", { class: "small soft" }, count(w.files, "file"))),
        h("td", { class: "wide small soft" }, h("div", {}, swatch(w.step), `of step ${w.step}, ${hows[w.how] ?? w.how} step ${w.by}`), h("div", { class: "mono cut", style: { "max-width": "420px" }, title: step(w.by)?.instruction }, step(w.by)?.instruction)),
        h("td", { class: "num" }, bytes(w.bytes))))))),
    card("Steps", "what each added, and what of it is wasted", h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "Step"), h("th", { class: "num wide" }, "Added"), h("th", { class: "num wide" }, "Modified"), h("th", { class: "num wide" }, "Removed"), h("th", { class: "num wide" }, "Wasted"), h("th", { class: "num" }, "Size"))),
      h("tbody", {}, r.steps.map((s, i) => ({ s, i })).filter(({ s }) => s.layer >= 0).map(({ s, i }) => h("tr", {},
        h("td", {}, h("a", { href: `${img.href}/files?layer=${s.layer}`, class: "path" }, named(i + 1))),
        [s.added, s.modified, s.removed].map((n) => h("td", { class: "num wide soft" }, n ? n.toLocaleString("en") : "")),
        h("td", { class: "num wide soft" }, s.wasted ? bytes(s.wasted) : ""), h("td", { class: "num" }, bytes(s.size))))))),
    r.largest.length > 0 && card("Largest files", "", h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "File"), h("th", { class: "num" }, "Size"))),
      h("tbody", {}, r.largest.slice(0, 20).map((f) => h("tr", {}, h("td", {}, h("a", { class: "path", href: url("content", { image: img.ref }, { path: f.ref }), download: "" }, f.path)), h("td", { class: "num" }, bytes(f.bytes))))))),
    r.copies.length > 0 && card("Copies", "files with the same content", h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "Files"), h("th", { class: "num" }, "Size of one"))),
      h("tbody", {}, r.copies.slice(0, 20).map((c) => h("tr", {}, h("td", {}, c.paths.slice(0, 4).map((p) => h("div", { class: "path" }, p)), c.count > 4 && h("div", { class: "small soft" }, `and ${c.count - 4} more`)), h("td", { class: "num" }, bytes(c.bytes)))))))));
}
