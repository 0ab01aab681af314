import { element } from "./element.js";
import { shownResult } from "./result.js";

/** What an intrinsic said about a message. `found` is kept with the conversation: {text, result, error, stopped, warnings}. */
export class Card {
  constructor(name, about = "") {
    this.name = name;
    this.root = element("li", { className: "card" });
    this.body = element("div", { className: "said" });
    this.root.append(element("h3", { title: about }, name), this.body);
  }

  /** An answer that comes: a text as it is, and of what has parts only that it comes. */
  progress(text) {
    this.root.ariaBusy = "true";
    const plain = text.trimStart();
    this.body.replaceChildren(!plain || "{[".includes(plain[0]) ? "…" : plain.replace(/^"/, ""));
  }

  /** `again` asks once more. */
  show({ text, result, error, stopped, warnings = [] }, again) {
    this.root.ariaBusy = "false";
    const nodes = [];
    if (error) nodes.push(element("p", { className: "error" }, error, " ", element("button", { type: "button", className: "quiet", onclick: again }, "Try again")));
    else if (result !== undefined) nodes.push(...shownResult(result, this.name, wordOf(text)));
    else if (text || !stopped) nodes.push(...(text ? shownResult(parsed(text), this.name) : ["(nothing)"]));
    if (stopped) nodes.push(element("p", { className: "note" }, "stopped"));
    for (const warning of warnings) nodes.push(element("p", { className: "note" }, warning));
    this.body.replaceChildren(...nodes);
  }
}

/** JSON's value; what is none is text. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The text, if it is a word and not what the result has anyway. */
function wordOf(text) {
  const value = parsed(text ?? "");
  return typeof value === "string" ? value : "";
}
