package chrome

// Check returns what a view does wrong for those who read it: text of little contrast (WCAG 2.2, 1.4.3), controls without names (4.1.2), IDs
// that occur twice, rows of trees that lack their level, and a page that is wider than the window (1.4.10).
func (t *Tab) Check() ([]string, error) { return Value[[]string](t, check) }

const check = `(() => {
  const wrong = [], canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const over = (top, under) => { const a = top[3] / 255; return [0, 1, 2].map((i) => top[i] * a + under[i] * (1 - a)).concat(255); };
  const luminance = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3]) layers.push(c); if (c[3] === 255) break; }
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 255]);
  };
  const what = (e) => e.tagName.toLowerCase() + "." + e.className + " " + JSON.stringify((e.innerText || e.getAttribute("aria-label") || "").slice(0, 40));
  const seen = new Set();
  for (const e of document.querySelectorAll("body *")) {
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || e.closest(".unseen, .skip, noscript, [hidden], script, title") || e.disabled || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    let opacity = 1;
    for (let p = e; p; p = p.parentElement) opacity *= Number(getComputedStyle(p).opacity);
    const under = ground(e), color = rgba(style.color);
    color[3] *= opacity;
    const [a, b] = [luminance(over(color, under)), luminance(under)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    const key = [style.color, under, e.className].join();
    if (ratio < (large ? 3 : 4.5) && !seen.has(key)) { seen.add(key); wrong.push("contrast " + ratio.toFixed(2) + " of " + what(e)); }
  }
  for (const e of document.querySelectorAll("button, a[href], input, select, [role=treegrid], [tabindex='0']")) {
    if (!(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.innerText?.trim() || e.closest("label")?.innerText.trim())) wrong.push("no name: " + what(e));
  }
  const ids = new Set();
  for (const e of document.querySelectorAll("[id]")) { if (ids.has(e.id)) wrong.push("twice: #" + e.id); ids.add(e.id); }
  for (const e of document.querySelectorAll("[role=row]:not(.th)")) if (!e.getAttribute("aria-level")) wrong.push("no level: " + what(e));
  for (const e of document.querySelectorAll("[aria-controls]")) if (e.getAttribute("aria-expanded") === "true" && !document.getElementById(e.getAttribute("aria-controls"))) wrong.push("controls nothing: " + what(e));
  if (document.querySelectorAll("h1").length !== 1) wrong.push("headings: " + document.querySelectorAll("h1").length);
  if (document.documentElement.scrollWidth > innerWidth) {
    const wide = [...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map(what).slice(0, 3);
    wrong.push("wider than the window: " + document.documentElement.scrollWidth + " " + wide.join("; "));
  }
  return wrong;
})()`
