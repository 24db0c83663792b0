import { h } from "./dom.js";

// ask shows a question, and waits for the answer. The button that does nothing has the focus.
export function ask(title, text, action) {
  return new Promise((resolve) => {
    const no = h("button", { type: "button", onclick: () => box.close("") }, "Cancel");
    const box = h("dialog", { "aria-labelledby": "ask", onclose: () => { resolve(box.returnValue === "yes"); box.remove(); } },
      h("h2", { id: "ask" }, title), h("p", {}, text),
      h("div", { class: "row" }, no, h("button", { type: "button", class: "danger", onclick: () => box.close("yes") }, action)));
    document.body.append(box);
    box.showModal();
    no.focus();
  });
}
