import { element } from "./element.js";

/** What an intrinsic said about a message. */
export class Card {
  constructor(name) {
    this.root = element("li", { className: "card", ariaBusy: "true" });
    this.root.append((this.name = element("h3", {}, name)), (this.body = element("div", { className: "said" }, "…")));
  }

  progress(text) {
    this.body.replaceChildren(text);
  }

  /** `result` is what the server made of the text by the intrinsic's io.yaml, undefined if there is none. */
  show(text, result) {
    const share = shareIn(result);
    this.body.replaceChildren(...(share ? bar(share, plain(text)) : [plainResult(result) ?? plain(text)]));
    this.root.ariaBusy = "false";
  }

  stopped() {
    this.body.append(element("span", { className: "note" }, "stopped"));
    this.root.ariaBusy = "false";
  }

  fail(message) {
    this.body.replaceChildren(element("p", { className: "error" }, message));
    this.root.ariaBusy = "false";
  }
}

/** {name, value} of a result that is one number between 0 and 1. */
function shareIn(result) {
  const [[name, value], ...more] = typeof result === "object" && result ? Object.entries(result) : [["probability", result]];
  return !more.length && typeof value === "number" && value >= 0 && value <= 1 ? { name: name.replaceAll("_", " "), value } : null;
}

function bar({ name, value }, text) {
  const percent = `${Math.round(100 * value)}%`;
  const filled = element("i");
  filled.style.width = percent;
  const meter = element("div", { className: "meter", role: "meter", ariaLabel: name, ariaValueMin: "0", ariaValueMax: "1", ariaValueNow: String(value), ariaValueText: percent }, filled);
  return [meter, element("p", { className: "figure" }, element("b", {}, percent), element("span", {}, name), element("span", { className: "note" }, text))];
}

function plainResult(result) {
  if (typeof result !== "object" || result === null) return result === undefined ? null : String(result);
  const values = Object.values(result);
  return values.length === 1 && typeof values[0] === "string" ? values[0] : JSON.stringify(result, null, 1);
}

/** The text, without the quotes that a JSON string has. */
function plain(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "string" ? value : text;
  } catch {
    return text || "(nothing)";
  }
}
