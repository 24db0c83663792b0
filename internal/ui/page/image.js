import { get } from "./api.js";
import { h, fill, bytes, ago, short, count, hue } from "./dom.js";
import { imageName } from "./images.js";
import { files } from "./files.js";
import { sizes } from "./treemap.js";
import { analysis } from "./analysis.js";
import { source } from "./source.js";

// The tabs of an image, by the second part of the address.
const tabs = { layers: ["Layers", layersTab], files: ["Files", files], sizes: ["Sizes", sizes], analysis: ["Analysis", analysis], config: ["Configuration", configTab] };

// Where an image is that is not in the store.
const places = { registry: "in its registry", layout: "an OCI layout", archive: "an archive", directory: "a directory", layer: "a layer", build: "a build" };

// packed says that a size is that of compressed layers.
const packed = (part) => part.packed && h("span", { class: "soft" }, " compressed");

// image shows one image.
export async function image(into, at, signal) {
  const [id, tab = "layers"] = at.args;
  const img = await get("image", { image: id }, {}, signal);
  img.href = `#/image/${encodeURIComponent(id)}`;
  const [, draw] = tabs[tab] ?? tabs.layers;
  const body = h("div");
  fill(into,
    h("div", { class: "head" }, h("div", { class: "grow" },
      h("div", { class: "crumbs" }, h("a", { href: "#/images" }, "Images")),
      h("h1", {}, imageName(img)),
      h("div", { class: "meta" },
        img.id && h("span", {}, h("code", {}, short(img.id))), h("span", {}, h("b", {}, bytes(img.size)), packed(img), " in ", count(img.layers, "layer")), img.platform && h("span", {}, img.platform),
        places[img.kind] && h("span", { class: "chip" }, places[img.kind]), img.created && h("span", {}, "created ", ago(img.created)), img.build && h("a", { href: `#/build/${img.build}` }, "build ", img.build.slice(0, 8)),
        img.names.slice(1).map((n) => h("span", { class: "chip" }, n)))),
      h("a", { class: "button", href: `#/compare/${encodeURIComponent(places[img.kind] ? id : short(img.id))}` }, "Compare…")),
    h("nav", { class: "tabs", "aria-label": "Parts of the image" },
      Object.entries(tabs).map(([name, [title]]) => h("a", { href: `${img.href}/${name}`, "aria-current": name === tab ? "page" : undefined }, title))),
    body);
  await draw(body, img, at, signal);
}

// command is the text of a layer's history without what every line begins with.
export function command(text) {
  return (text ?? "").replace(/^\/bin\/sh -c #\(nop\)\s+/, "").replace(/^\/bin\/sh -c /, "RUN ").replace(/^RUN (\|\d+ .*?)?\/bin\/sh -c /, "RUN ").replace(/ # buildkit$/, "").trim();
}

// layerNames are the commands of the layers of an image.
export function layerNames(img) {
  const names = img.layerList.map((l) => l.step ?? "");
  for (const line of img.history) if (line.layer >= 0 && line.command) names[line.layer] = command(line.command);
  return names.map((n, i) => n || `layer ${i + 1}`);
}

function layersTab(into, img) {
  const names = layerNames(img), most = Math.max(1, ...img.layerList.map((l) => l.size));
  const facts = h("div", { class: "pad", "aria-live": "polite" }), buttons = [];
  // Layers of the base image are below the first one that this Dockerfile made.
  const own = img.layerList.map((l) => img.build && l.build === img.build && l.line > 0 && !/ FROM /.test(l.step ?? ""));
  const text = img.dockerfile && source(img.dockerfile, {
    lines: Object.fromEntries(img.layerList.map((l, i) => [l.line, i]).filter(([line, i]) => line && own[i])),
    cost: (i) => bytes(img.layerList[i].size), pick: (i) => select(i, true),
  });

  function select(i, focus) {
    buttons.forEach((b, k) => b.setAttribute("aria-pressed", k === i));
    if (focus) buttons[i].focus();
    text?.mark(own[i] ? img.layerList[i].line : 0);
    const l = img.layerList[i];
    fill(facts, h("dl", { class: "facts" },
      h("dt", {}, "Command"), h("dd", {}, h("code", {}, names[i])),
      h("dt", {}, "Size"), h("dd", {}, bytes(l.size), packed(l), l.files ? ` in ${count(l.files, "entry", "entries")}` : ""),
      l.diffID && [h("dt", {}, "DiffID"), h("dd", {}, h("code", {}, l.diffID))],
      l.build && [h("dt", {}, "Made by"), h("dd", {}, h("a", { href: `#/build/${l.build}` }, l.step))],
      h("dt", {}, ""), h("dd", {}, h("a", { href: `${img.href}/files?layer=${i}` }, "What it changed"))));
  }

  const list = h("ol", { class: "layers", reversed: true });
  for (let i = img.layerList.length - 1; i >= 0; i--) {
    const l = img.layerList[i];
    buttons[i] = h("button", { type: "button", "aria-pressed": "false", style: { "--hue": hue(i) }, onclick: () => select(i) },
      h("span", { class: "n" }, i + 1), h("span", { class: "cmd cut", title: names[i] }, names[i]), h("span", { class: "num small" }, bytes(l.size)),
      h("span", { class: "meter", "aria-hidden": "true" }, h("i", { style: { width: `${(100 * l.size) / most}%` } })));
    list.append(h("li", {}, buttons[i]));
  }
  list.addEventListener("keydown", (e) => {
    const step = { ArrowDown: -1, ArrowUp: 1 }[e.key], i = buttons.indexOf(e.target);
    if (step === undefined || i < 0 || !buttons[i + step]) return;
    e.preventDefault();
    select(i + step, true);
  });
  const stack = h("div", { class: "stack" },
    h("section", { class: "card" }, h("div", { class: "title" }, h("h2", { class: "grow" }, "Layers"), h("span", { class: "soft small" }, "the last one above")), img.layers ? list : h("p", { class: "empty" }, "The image has no layers.")),
    h("section", { class: "card" }, h("div", { class: "title" }, h("h2", {}, "Selected layer")), facts));
  fill(into, h("div", { class: "pair" }, stack,
    h("section", { class: "card" }, h("div", { class: "title" }, h("h2", {}, text ? "Dockerfile" : "History")), text ? text.element : img.history.length ? history(img) : h("p", { class: "empty" }, "It has none."))));
  if (img.layerList.length) select(img.layerList.length - 1);
  else fill(facts, h("p", { class: "soft" }, "none"));
}

function history(img) {
  return h("ol", { class: "source" }, img.history.map((line) => h("li", {}, h("span", {}, command(line.command) || line.comment || "unknown"),
    h("span", { class: "cost" }, line.layer >= 0 ? bytes(img.layerList[line.layer].size) : ""))));
}

function configTab(into, img) {
  const c = img.config, words = (list) => list?.length ? h("code", {}, JSON.stringify(list)) : undefined;
  const lines = (list) => list?.length ? h("pre", { class: "pre" }, list.join("\n")) : undefined;
  const facts = [
    ["ID", img.id && h("code", {}, img.id)], ["Manifest", img.manifest && h("code", {}, img.manifest)], ["Names", lines(img.names)], ["Digests", lines(img.digests)], ["Entrypoint", words(c.entrypoint)], ["Command", words(c.cmd)],
    ["Environment", lines(c.env)], ["User", c.user], ["Directory", c.workingDir && h("code", {}, c.workingDir)], ["Ports", c.ports?.join(", ")],
    ["Volumes", c.volumes?.join(", ")], ["Stop signal", c.stopSignal],
    ["Labels", lines(Object.entries(c.labels ?? {}).map(([k, v]) => `${k}=${v}`))],
  ];
  fill(into, h("section", { class: "card pad" }, h("dl", { class: "facts" }, facts.filter(([, v]) => v).map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]))));
}
