import { get, post } from "./api.js";
import { h, fill, bytes, ago, count, say } from "./dom.js";
import { ask } from "./dialog.js";

// cache shows what the store takes on disk, and prunes the build cache.
export async function cache(into, at, signal) {
  const data = await get("cache", {}, {}, signal);
  const body = h("tbody"), note = h("span", { class: "soft small", "aria-live": "polite" }), result = h("div", { "aria-live": "polite" });
  const search = h("input", { type: "search", placeholder: "Search the cache", "aria-label": "Search the cache", oninput: draw });
  const most = Math.max(1, ...data.cache.map((c) => c.size));

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.cache.filter((c) => words.every((w) => `${c.name} ${c.id}`.toLowerCase().includes(w)));
    note.textContent = words.length ? `${found.length} of ${data.total}` : data.total > data.cache.length ? `the ${data.cache.length} used last of ${data.total}` : String(data.total);
    fill(body, found.map((c) => h("tr", {},
      h("td", {}, h("div", { class: "mono cut", title: c.name, style: { "max-width": "min(62vw, 640px)" } }, c.mount ? ["cache mount ", c.name] : c.name), h("div", { class: "small soft" }, h("code", {}, c.id))),
      h("td", { class: "wide soft" }, ago(c.used)),
      h("td", { class: "num" }, bytes(c.size), h("span", { class: "meter", "aria-hidden": "true" }, h("i", { style: { width: `${(100 * c.size) / most}%` } }))))));
  }
  draw();
  fill(into,
    h("div", { class: "head" }, h("h1", {}, "Cache")),
    h("div", { class: "stack" },
      h("div", { class: "tiles" }, data.usage.map((u) => h("section", { class: "card tile" },
        h("h2", { class: "soft" }, u.type), h("div", { class: "big" }, bytes(u.size)),
        h("div", { class: "small soft" }, `${count(u.total, "object")}, ${u.active} in use · ${bytes(u.reclaimable)} can be freed`)))),
      pruneForm(result, data),
      result,
      h("section", { class: "card" },
        h("div", { class: "title" }, h("h2", {}, "Build cache"), note, h("span", { class: "grow" }), search),
        data.cache.length ? h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Step"), h("th", { class: "wide" }, "Last used"), h("th", { class: "num" }, "Size"))), body) :
          h("p", { class: "empty" }, "The build cache is empty."))));

  function pruneForm(result) {
    const until = h("select", { "aria-label": "Unused for", onchange: show }, [["", "any time"], ["24h", "a day"], ["168h", "a week"], ["720h", "30 days"]].map(([v, t]) => h("option", { value: v }, t)));
    const keep = h("input", { type: "text", size: "8", placeholder: "10GB", "aria-label": "Keep at most", oninput: show });
    const all = h("input", { type: "checkbox", onchange: show });
    const line = h("code", { class: "command" });
    const button = h("button", { type: "button", class: "main", onclick: run }, "Prune…");
    function show() {
      line.textContent = "mica builder prune" + (all.checked ? " --all" : "") + (until.value ? ` --filter until=${until.value}` : "") + (keep.value.trim() ? ` --keep-storage ${keep.value.trim()}` : "");
    }
    async function run() {
      const what = all.checked ? "all build cache" : "all dangling build cache";
      if (!await ask("Prune the build cache?", `This will remove ${what}${until.value ? " that was not used for " + until.selectedOptions[0].text : ""}. The next builds run those steps again.`, "Prune")) return;
      button.disabled = true;
      say("pruning");
      try {
        const done = await post("cache/prune", { all: all.checked, until: until.value, keepStorage: keep.value.trim() });
        await cache(into, at, signal);
        const message = h("p", { class: "notice", role: "status" }, `${count(done.removed, "object")} removed. Total reclaimed space: ${bytes(done.freed)}`);
        into.querySelector(".tiles").after(message);
      } catch (err) {
        fill(result, h("p", { class: "notice bad", role: "alert" }, err.message));
        button.disabled = false;
      }
    }
    show();
    return h("section", { class: "card pad form" }, h("h2", {}, "Prune"),
      h("div", { class: "fields" }, h("label", {}, "Unused for ", until), h("label", {}, "Keep at most ", keep), h("label", { class: "check" }, all, "also what images share layers with")),
      h("div", { class: "fields" }, button, line));
  }
}
