import { h } from "./dom.js";

// source shows a Dockerfile. lines has what a line made, by its number; cost(made) is shown beside it, and pick(made) is called when the line
// is chosen. mark(line) highlights the instruction that begins at a line.
export function source(text, { lines = {}, cost, pick }) {
  const rows = [], starts = [];
  let start = 0, heredoc = "", continued = false;
  text.replace(/\n$/, "").split("\n").forEach((line, i) => {
    if (!continued && !heredoc) start = i + 1;
    starts[i] = start;
    const ended = heredoc && line.trim() === heredoc;
    const opened = !heredoc && !/^\s*#/.test(line) && line.match(/<<-?["']?(\w+)["']?/);
    rows.push(row(line, !continued && !heredoc));
    if (ended) heredoc = "";
    else if (opened) heredoc = opened[1];
    continued = !heredoc && (/\\\s*$/.test(line) || (continued && /^\s*#/.test(line)));
  });
  for (const [line, made] of Object.entries(lines)) {
    const li = rows[line - 1];
    if (!li) continue;
    if (cost) li.append(h("span", { class: "cost" }, cost(made)));
    if (!pick) continue;
    rows.forEach((r, i) => {
      if (starts[i] !== Number(line)) return;
      r.classList.add("made");
      r.addEventListener("click", () => pick(made));
    });
  }
  return {
    element: h("ol", { class: "source" }, rows),
    mark(line) {
      rows.forEach((r, i) => r.classList.toggle("on", line > 0 && starts[i] === line));
    },
  };
}

function row(line, first) {
  const found = first && line.match(/^(\s*)([A-Za-z]+)(\s.*|)$/);
  if (/^\s*#/.test(line)) return h("li", {}, h("span", { class: "comment" }, line));
  if (!found) return h("li", {}, h("span", {}, line || " "));
  return h("li", {}, h("span", {}, found[1], h("span", { class: "kw" }, found[2]), found[3]));
}
