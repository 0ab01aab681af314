import { element } from "./element.js";

const COUNTS = /(^|_)(id|ids|index|begin|end|count|number|n|turn|rank)$/; // numbers that are no shares, even if they are 0 or 1

/** What an intrinsic found, as elements: shares as bars, lists as lists, and what has parts as a table. `own` is a name that no label
 * needs to repeat; `said` is a word that stands beside the first bar. */
export function shownResult(value, own, said = "") {
  const parts = entriesOf(value);
  const nodes = parts ? parts.flatMap(([name, part]) => shownPart(label(name, own), name, part, parts.length === 1)) : shownPart("", "", value, true);
  if (said) nodes.find((node) => node.className === "share")?.lastChild.append(element("span", { className: "note" }, said));
  const bars = nodes.filter(({ className }) => className === "share");
  return [...bars, ...nodes.filter((node) => !bars.includes(node))]; // verdicts first
}

/** How likely each answer is, and which is the likeliest: {shares: [[answer, share]], chosen}. */
export function shownShares({ shares, chosen }) {
  return element("ul", { className: "shares" }, ...shares.map(([answer, share]) => {
    const shown = bar(share, answer, answer);
    if (answer === chosen) shown.lastChild.append(element("span", { className: "note" }, "likeliest"));
    return element("li", { className: answer === chosen ? "chosen" : "" }, shown);
  }));
}

function shownPart(name, key, value, alone) {
  if (isShare(value, key)) return [bar(value, name || key.replaceAll("_", " ") || "probability", name)];
  const shown = shownValue(value);
  return alone || !name ? [shown] : [element("div", { className: "part" }, element("h4", {}, name), shown)];
}

function shownValue(value) {
  if (Array.isArray(value)) {
    if (!value.length) return element("p", { className: "note" }, "nothing");
    if (value.every((item) => entriesOf(item))) return rowsOf(value);
    return element("ul", { className: "found" }, ...value.map((item) => element("li", {}, shownValue(item))));
  }
  const parts = entriesOf(value);
  if (!parts) return element("p", { className: "value" }, inWords(value));
  return element("dl", {}, ...parts.flatMap(([name, part]) => [element("dt", {}, label(name)), element("dd", {}, cell(part, name))]));
}

/** A table where the parts are few and small, and otherwise one list for each. */
function rowsOf(values) {
  const names = [...new Set(values.flatMap((value) => Object.keys(value)))];
  const small = names.length <= 3 && values.every((value) => Object.values(value).every((part) => typeof part !== "object" || part === null));
  if (!small) return element("ul", { className: "found parts" }, ...values.map((value) => element("li", {}, shownValue(value))));
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, label(name))));
  const rows = values.map((value) => element("tr", {}, ...names.map((name) => element("td", {}, name in value ? cell(value[name], name) : ""))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
}

function cell(value, name) {
  return isShare(value, name) ? bar(value, label(name), "") : typeof value === "object" && value !== null ? shownValue(value) : inWords(value);
}

function bar(value, name, shownName) {
  const percent = inPercent(value), filled = element("i");
  filled.style.width = `${100 * value}%`;
  const meter = element("div", { className: "meter", role: "meter", ariaLabel: name, ariaValueMin: "0", ariaValueMax: "1", ariaValueNow: String(value), ariaValueText: percent }, filled);
  return element("div", { className: "share" }, meter, element("p", { className: "figure" }, element("b", {}, percent), element("span", {}, shownName)));
}

function isShare(value, name) {
  return typeof value === "number" && value >= 0 && value <= 1 && !COUNTS.test(name);
}

/** Rounded for people; only what is certain is all or nothing. */
export function inPercent(value) {
  const percent = Math.round(100 * value);
  if (percent === 100 && value < 1) return "over 99%";
  if (percent === 0 && value > 0) return "under 1%";
  return `${percent}%`;
}

function inWords(value) {
  if (value === null || value === undefined || value === "") return "nothing";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value);
}

/** A name for people, without the words that it has from `own`. */
function label(name, own = "") {
  const words = name.replaceAll("_", " "), known = own.replaceAll(/[-_]/g, " ");
  return words === known ? "" : words.startsWith(`${known} `) ? words.slice(known.length + 1) : words;
}

/** The parts of an object, null of anything else. */
function entriesOf(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value) : null;
}
