import { byId, element } from "./element.js";

const number = new Intl.NumberFormat("en");
const PARTS = ["cached", "read", "written"];

/** What each call took from the cache and what it computed, in tokens. A call is {name, intrinsic, cost, first, took}, plain data. */
export class Strip {
  calls = [];
  rows = [];

  constructor() {
    this.root = byId("strip");
    this.list = byId("calls");
    this.total = byId("total");
    this.share = byId("share");
    this.bar = byId("total-bar");
    this.unfold = byId("unfold");
    this.unfold.onclick = () => {
      this.unfold.setAttribute("aria-expanded", String(this.root.classList.toggle("unfolded")));
      this.list.scrollTop = this.list.scrollHeight;
    };
    this.refresh();
  }

  /** The calls of a conversation, which keeps them. */
  show(calls) {
    this.calls = calls;
    this.rows = calls.map((call) => new Row(this, call));
    this.list.replaceChildren(...this.rows.map(({ root }) => root));
    this.list.scrollTop = this.list.scrollHeight;
    this.refresh();
  }

  /** A row for a call that begins; `intrinsic` says whether it is one's. */
  begin(name, intrinsic) {
    const row = new Row(this, { name, intrinsic, cost: null, first: "", took: "" });
    this.calls.push(row.call);
    this.rows.push(row);
    this.list.append(row.root);
    this.list.scrollTop = this.list.scrollHeight;
    return row;
  }

  refresh() {
    const sum = { cached: 0, read: 0, written: 0 };
    for (const { cost } of this.rows) for (const part of PARTS) sum[part] += cost[part];
    const all = totalOf(sum);
    this.root.classList.toggle("empty", !all);
    this.total.textContent = all ? inWords(sum) : "Nothing computed yet";
    this.list.tabIndex = all ? 0 : -1; // it scrolls, once there is something in it
    this.share.textContent = all ? `${Math.round((100 * sum.cached) / all)}% came from the cache` : "";
    draw(this.bar, sum, all);
    const longest = Math.max(1, ...this.rows.map(({ cost }) => totalOf(cost)));
    for (const row of this.rows) draw(row.bar, row.cost, longest);
  }
}

class Row {
  constructor(strip, call) {
    this.strip = strip;
    this.call = call;
    this.bar = element("div", { className: "bar", ariaHidden: "true" });
    this.words = element("span", { className: "words" });
    this.first = element("span", { className: "time" });
    this.took = element("span", { className: "time" });
    this.root = element("li", { className: call.intrinsic ? "intrinsic" : "base" },
      element("span", { className: "name" }, call.name), this.first, this.bar, this.words, this.took);
    this.refresh();
  }

  get cost() {
    return this.call.cost ?? { cached: 0, read: 0, written: 0 };
  }

  refresh() {
    const { cost, first, took } = this.call;
    this.words.textContent = cost ? inWords(cost) : took || "waiting";
    this.first.textContent = first;
    this.took.textContent = cost ? took : "";
  }

  /** usage: OpenAI's, so far. first: milliseconds until the first token came, where one did. */
  update(usage, first) {
    const cached = usage.prompt_tokens_details.cached_tokens;
    this.call.cost = { cached, read: usage.prompt_tokens - cached, written: usage.completion_tokens };
    this.call.first = first === undefined ? "" : `first token ${inTime(first)}`;
    this.refresh();
    this.strip.refresh();
  }

  end(took, { aborted, error }) {
    const how = error ? "failed" : aborted ? "stopped" : "";
    this.call.took = !this.call.cost ? how : how ? `${how} after ${inTime(took)}` : `all ${inTime(took)}`;
    this.refresh();
  }
}

function totalOf({ cached, read, written }) {
  return cached + read + written;
}

function inWords(cost) {
  return `Computed ${number.format(cost.read + cost.written)} of ${number.format(totalOf(cost))} tokens`;
}

function inTime(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** A bar of the three parts, of which `whole` tokens would fill the width. */
function draw(bar, cost, whole) {
  while (bar.children.length < PARTS.length) bar.append(element("i", { className: PARTS[bar.children.length] }));
  PARTS.forEach((part, i) => (bar.children[i].style.width = whole ? `${(100 * cost[part]) / whole}%` : "0"));
}
