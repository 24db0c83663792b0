// Elements and texts. Whatever comes from images, builds and names of files becomes text, never markup.

// h makes an element. Properties that begin with "on" are listeners, and "style" is an object of CSS properties; others are attributes.
export function h(tag, props, ...kids) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props ?? {})) {
    if (v === undefined || v === null || (v === false && !k.startsWith("aria-"))) continue;
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (k === "style") for (const [name, value] of Object.entries(v)) e.style.setProperty(name, value);
    else if (k === "value" || k === "checked" || k === "disabled" || k === "selected") e[k] = v;
    else e.setAttribute(k, v === true && !k.startsWith("aria-") ? "" : v);
  }
  add(e, kids);
  return e;
}

function add(e, kids) {
  for (const kid of kids) {
    if (Array.isArray(kid)) add(e, kid);
    else if (kid !== undefined && kid !== null && kid !== false) e.append(kid);
  }
}

export function fill(e, ...kids) {
  e.replaceChildren();
  add(e, kids);
  return e;
}

// bytes is a size as docker prints it.
export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) { n /= 1000; i++; }
  return Number(n.toPrecision(i ? 3 : 4)) + units[i];
}

// seconds is a duration of milliseconds as docker's progress shows it.
export function seconds(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 60) return s.toFixed(1) + "s";
  const whole = Math.round(s);
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${whole % 60}s`;
  return `${Math.floor(whole / 3600)}h ${Math.floor(whole / 60) % 60}m`;
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

// ago is a time as people say it; its element has the whole time.
export function ago(text) {
  if (!text) return h("span", { class: "soft" }, "unknown");
  const at = new Date(text), s = (at - Date.now()) / 1000;
  let said = "just now";
  for (const [unit, n] of [["year", 31536000], ["month", 2592000], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]) {
    if (Math.abs(s) >= n) { said = relative.format(Math.round(s / n), unit); break; }
  }
  return h("time", { datetime: at.toISOString(), title: at.toLocaleString("en-GB") }, said);
}

// count is a number with its noun.
export const count = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

export const short = (digest) => (digest ?? "").replace(/^sha256:/, "").slice(0, 12);

// hue is the colour of a layer.
export function hue(i) {
  const hues = [185, 255, 75, 330, 140, 25, 295, 105, 220, 50];
  return `light-dark(oklch(0.53 0.085 ${hues[i % hues.length]}), oklch(0.72 0.085 ${hues[i % hues.length]}))`;
}

// plain removes what terminals take for colours and movements of the cursor; of a line that was overwritten the last state stays.
export function plain(text) {
  // eslint-disable-next-line no-control-regex
  return text.replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]/g, "").replace(/\r\n/g, "\n").replace(/[^\n]*\r/g, "");
}

// say tells users of screen readers.
export function say(text) {
  document.getElementById("status").textContent = text;
}
