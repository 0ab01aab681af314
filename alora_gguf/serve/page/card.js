import { element } from "./element.js";
import { Reading } from "./reading.js";
import { shownResult, shownShares } from "./result.js";

/** What of all that is found is not all there yet. */
export const underWay = new WeakSet();

/** What an intrinsic said about a message, or what a typed question decided. `found` is kept with the conversation:
 * {text, result, error, stopped, warnings}, or {question, decision, ...}. */
export class Card {
  constructor(name, about = "", title = name) {
    this.name = name;
    this.root = element("li", { className: "card", tabIndex: -1 });
    this.body = element("div", { className: "said", dir: "auto" });
    this.reading = new Reading();
    this.root.append(element("h3", { title: about, dir: "auto" }, title), this.reading.root, this.body);
  }

  /** An answer that comes: a text as it is, and of what has parts only that it comes. */
  progress(text) {
    this.root.ariaBusy = "true";
    this.reading.show(null);
    this.body.replaceChildren(isParts(text) ? "…" : inPlain(text));
  }

  /** `again` asks once more. */
  show(found, again) {
    const { text, result, decision, error, stopped, warnings = [] } = found;
    if (underWay.has(found)) {
      this.progress(text);
      return;
    }
    this.root.ariaBusy = "false";
    this.reading.show(null);
    const nodes = [], retry = () => element("button", { type: "button", className: "quiet", onclick: again }, "Try again");
    if (error) nodes.push(element("p", { className: "error" }, error, " ", retry()));
    else if (decision) nodes.push(shownShares(decision));
    else if (result !== undefined) nodes.push(...shownResult(result, this.name, wordOf(text)));
    else if (stopped) nodes.push(...(isParts(text) ? [] : [element("p", { className: "value" }, inPlain(text))]));
    else nodes.push(...(text ? shownResult(parsed(text), this.name) : ["(nothing)"]));
    if (stopped) nodes.push(element("p", { className: "note" }, "stopped ", retry()));
    for (const warning of warnings) nodes.push(element("p", { className: "note" }, warning));
    this.body.replaceChildren(...nodes);
  }
}

/** Whether what has come of an answer is nothing that can be read, or the beginning of one that has parts. */
function isParts(text) {
  return !text?.trim() || "{[".includes(text.trimStart()[0]);
}

function inPlain(text) {
  return text.trimStart().replace(/^"/, "");
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
