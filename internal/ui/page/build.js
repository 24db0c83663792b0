import { get, url } from "./api.js";
import { h, fill, ago, bytes, count, seconds, short, plain } from "./dom.js";
import { status, took, remove } from "./builds.js";
import { source } from "./source.js";
import { ask } from "./dialog.js";

const maxLines = 20000; // of a log on the page

// build shows one build, and follows it while it runs.
export async function build(into, at, signal) {
  const ref = at.args[0];
  let b = await get("build", { build: ref }, {}, signal), offset = 0;
  const logs = new Map(); // texts of the output, by the places of steps
  const open = new Set(at.params.has("step") ? [Number(at.params.get("step"))] : []);
  const head = h("div", { class: "head" }), gantt = h("section", { class: "card" }), text = h("section", { class: "card" }), output = h("section", { class: "card" });
  const tools = { all: false };

  function draw() {
    const focus = gantt.contains(document.activeElement) ? document.activeElement.dataset.step : undefined;
    fill(head, heading(b, offset, async () => {
      if (await ask("Remove this build?", `The record and the log of build ${b.ref} are removed. Images and cache stay.`, "Remove")) {
        await remove(b.ref);
        location.hash = "#/builds";
      }
    }));
    timeline(gantt, b, offset, { open, logs, tools, redraw: draw });
    if (focus !== undefined) gantt.querySelector(`button[data-step="${CSS.escape(focus)}"]`)?.focus();
    dockerfile(text, b, (i) => { open.add(i); draw(); gantt.querySelector(`button[data-step="${i}"]`)?.focus(); });
    logOf(output, b, logs);
  }

  function take(part) {
    for (const l of part.log) {
      if (!logs.has(l.step)) logs.set(l.step, []);
      logs.get(l.step).push(l);
    }
  }

  if (b.status !== "Running") {
    let from = 0;
    for (let more = true; more && from < 64e6;) {
      const part = await get("log", { build: b.ref, from }, {}, signal);
      take(part);
      from = part.next;
      more = part.more;
    }
    draw();
  } else {
    draw();
    const events = new EventSource(url("watch", { build: b.ref }));
    const old = b.older;
    events.addEventListener("build", (e) => { b = { ...JSON.parse(e.data), older: old }; draw(); });
    events.addEventListener("log", (e) => { take(JSON.parse(e.data)); draw(); });
    events.addEventListener("end", () => { events.close(); clearInterval(timer); draw(); });
    const timer = setInterval(() => { if (b.status === "Running") draw(); }, 1000);
    signal.addEventListener("abort", () => { events.close(); clearInterval(timer); });
  }
  fill(into, head, h("div", { class: "stack" }, gantt, text, output));
}

function heading(b, offset, forget) {
  const ran = b.done - b.cached;
  return [
    h("div", { class: "grow" },
      h("div", { class: "crumbs" }, h("a", { href: "#/builds" }, "Builds")),
      h("h1", {}, b.name),
      h("div", { class: "meta" },
        status(b.status), h("span", {}, h("b", {}, took(b, Date.now() + offset))), h("span", {}, "started ", ago(b.started)),
        h("span", {}, `${count(ran, "step")} ran, ${b.cached} cached`), h("code", {}, b.ref),
        b.image && h("a", { href: `#/image/${encodeURIComponent(b.names?.[0] ?? b.image)}` }, "image ", b.names?.[0] ?? short(b.image)),
        b.older && h("a", { href: `#/build/${b.older}` }, "the build before")),
      h("div", { class: "meta" }, h("code", {}, b.context || "-"), b.platforms?.map((p) => h("span", { class: "chip" }, p)),
        Object.entries(b.args ?? {}).map(([k, v]) => h("span", { class: "chip", title: `${k}=${v}` }, `${k}=${v}`)))),
    b.status !== "Running" && h("button", { type: "button", onclick: forget }, "Remove…"),
    b.error && h("p", { class: "notice bad grow", style: { "flex-basis": "100%" } }, b.error),
  ];
}

const stateOf = (s) => s.state || (s.completed ? "ran" : s.started ? "running" : "waiting");

function timeline(into, b, offset, { open, logs, tools, redraw }) {
  const begin = +new Date(b.started), now = Date.now() + offset;
  const end = Math.max(b.completed ? +new Date(b.completed) : b.status === "Running" ? now : 0, ...b.stepList.map((s) => +new Date(s.completed ?? s.started ?? begin)), begin + 1);
  const span = end - begin, at = (t) => (100 * Math.max(0, +new Date(t) - begin)) / span;
  const unit = ticks(span);
  const axis = h("div", { class: "axis", "aria-hidden": "true" }, h("span", {}, "Step"), h("div", { class: "ticks" }, unit.marks.map((m) => h("span", { style: { left: (100 * m) / span + "%" } }, unit.text(m)))), h("span", { class: "took" }, "Time"));
  const steps = b.stepList.map((s, i) => ({ s, i, state: stateOf(s) }));
  const hidden = (x) => !tools.all && x.s.name.startsWith("[internal]") && x.state !== "failed" && x.state !== "running" && !(x.s.completed && new Date(x.s.completed) - new Date(x.s.started) > span / 20);
  const shown = steps.filter((x) => !hidden(x));
  const list = h("div", { class: "gantt", style: { "--grid": `${(100 * unit.step) / span}%` } }, axis, shown.map(({ s, i, state }) => {
    const stop = s.completed ?? (state === "running" && b.status === "Running" ? new Date(now) : s.started);
    const ms = s.started ? +new Date(stop) - +new Date(s.started) : 0;
    const isOpen = open.has(i), panel = `step-${i}`;
    const took = state === "cached" ? "cached" : state === "waiting" ? (b.status === "Running" ? "waiting" : "not reached") : seconds(ms);
    const mark = { failed: "s-bad", running: "s-run", canceled: "s-warn", ran: "s-good" }[state] ?? "";
    return h("div", { class: `step st-${state}${isOpen ? " open" : ""}${s.name.startsWith("[internal]") ? " internal" : ""}` },
      h("button", { type: "button", "data-step": i, "aria-expanded": isOpen, "aria-controls": panel, onclick: () => { if (isOpen) open.delete(i); else open.add(i); redraw(); } },
        h("span", { class: "what" }, h("i", { class: `dot ${mark}`, "aria-hidden": "true" }), h("span", { class: "grow" }, h("span", { class: "label", style: { display: "block" }, title: s.name }, s.name),
          s.because && h("span", { class: "why", style: { display: "block" } }, "because ", s.because))),
        h("span", { class: "lane" }, s.started && h("i", { style: { left: `min(${at(s.started)}%, calc(100% - 3px))`, width: `${(100 * ms) / span}%` } })),
        h("span", { class: "took" }, h("span", { class: "unseen" }, state, " "), took)),
      isOpen && detail(panel, b, s, logs.get(i), (k) => { open.add(k); redraw(); document.querySelector(`button[data-step="${k}"]`)?.focus(); }));
  }));
  const internal = steps.length - steps.filter((x) => !hidden(x)).length;
  fill(into, h("div", { class: "title" }, h("h2", { class: "grow" }, "Timeline"),
    (internal > 0 || tools.all) && h("label", { class: "check" }, h("input", { type: "checkbox", checked: tools.all, onchange: (e) => { tools.all = e.target.checked; redraw(); } }), "internal steps")),
    steps.length ? list : h("p", { class: "empty" }, b.status === "Running" ? "The first step has not begun." : "No steps were recorded."));
}

// ticks chooses the marks of a time axis.
function ticks(span) {
  const steps = [10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5];
  const step = steps.find((s) => span / s <= 7) ?? Math.ceil(span / 7 / 36e5) * 36e5;
  const marks = [];
  for (let m = 0; m < span * 0.97; m += step) marks.push(m);
  return { step, marks, text: (m) => (step < 1000 ? (m / 1000).toFixed(step < 100 ? 2 : 1) + "s" : m < 6e4 ? m / 1000 + "s" : `${Math.floor(m / 6e4)}m${m % 6e4 ? ` ${(m % 6e4) / 1000}s` : ""}`) };
}

function detail(id, b, s, log, go) {
  const facts = [];
  if (s.started) facts.push(["Started", `${seconds(new Date(s.started) - new Date(b.started))} after the build`]);
  if (s.line) facts.push(["Dockerfile", `line ${s.line}`]);
  if (s.size) facts.push([stateOf(s) === "cached" ? "Layer" : "Wrote", bytes(s.size)]);
  if (s.cost?.had > 1) facts.push(["In all builds", `ran ${s.cost.ran} of ${s.cost.had} times, ${seconds(s.cost.time / 1e6)}${s.cost.size ? `, ${bytes(s.cost.size)} written` : ""}`]);
  return h("div", { class: "detail stack", id },
    h("p", {}, h("code", {}, s.name)),
    facts.length > 0 && h("div", { class: "meta" }, facts.map(([k, v]) => h("span", {}, k + " ", h("b", {}, v)))),
    s.error && h("p", { class: "notice bad" }, s.error),
    s.causes?.length > 0 && h("div", {}, h("h2", {}, "Why it ran"), h("ul", { class: "causes" }, s.causes.map((c) => h("li", {},
      c.step !== undefined ? h("a", { href: location.hash, onclick: (e) => { e.preventDefault(); go(c.step); } }, c.text) : c.text,
      c.detail && h("div", { class: "small soft mono" }, c.detail)))),
      s.roots && h("p", { class: "small soft" }, "From the start: ", s.roots)),
    s.cost?.notes?.map((n) => h("p", { class: "notice" }, n)),
    log && h("pre", { class: "log", tabindex: "0", "aria-label": "Output of the step" }, lines(log)));
}

function lines(log) {
  const parts = [];
  for (const l of log.slice(-maxLines)) parts.push(l.stream === 2 ? h("span", { class: "err" }, plain(l.text)) : plain(l.text));
  return parts;
}

function dockerfile(into, b, pick) {
  into.hidden = !b.text;
  if (!b.text || (into.shownFor === JSON.stringify(b.stepList.map((s) => [s.state, s.size])))) return;
  into.shownFor = JSON.stringify(b.stepList.map((s) => [s.state, s.size]));
  const lines = {};
  b.stepList.forEach((s, i) => { if (s.line && !s.name.startsWith("[internal]")) (lines[s.line] ??= []).push(i); });
  const view = source(b.text, {
    lines, pick: (list) => pick(list[0]),
    cost: (list) => list.map((i) => cost(b.stepList[i])).filter(Boolean).join(" · "),
  });
  fill(into, h("div", { class: "title" }, h("h2", { class: "grow" }, "Dockerfile"), h("span", { class: "soft small" }, "time and bytes of each step")), view.element);
}

function cost(s) {
  const state = stateOf(s), size = s.size ? ` ${bytes(s.size)}` : "";
  if (state === "cached") return "cached" + size;
  if (!s.started || !s.completed) return state === "running" ? "running" : "";
  return seconds(new Date(s.completed) - new Date(s.started)) + size;
}

function logOf(into, b, logs) {
  const all = [...logs].flatMap(([i, list]) => list.map((l) => ({ ...l, i }))).sort((x, y) => new Date(x.time) - new Date(y.time));
  into.hidden = all.length === 0;
  if (all.length === into.shownLines) return;
  into.shownLines = all.length;
  const parts = [];
  let last = -1;
  for (const l of all.slice(-maxLines)) {
    if (l.i !== last) parts.push(h("span", { class: "of" }, `${parts.length ? "\n" : ""}${b.stepList[l.i]?.name ?? ""}\n`));
    last = l.i;
    parts.push(l.stream === 2 ? h("span", { class: "err" }, plain(l.text)) : plain(l.text));
  }
  const box = h("pre", { class: "log", tabindex: "0", "aria-label": "Log" }, parts);
  const end = !into.box || into.box.scrollTop + into.box.clientHeight > into.box.scrollHeight - 40;
  const was = into.box?.scrollTop;
  into.box = box;
  fill(into, h("div", { class: "title" }, h("h2", {}, "Log")), h("div", { class: "pad" }, box));
  requestAnimationFrame(() => { box.scrollTop = end && b.status === "Running" ? box.scrollHeight : was ?? 0; });
}
