import { element } from "./element.js";

const number = new Intl.NumberFormat("en");
const LONG = 128; // tokens to be computed, for which it is worth a line

/** How much of a long prompt is read, while nothing has been said. */
export class Reading {
  constructor() {
    this.words = element("span");
    this.bar = element("progress", { ariaLabel: "Reading the conversation" });
    this.root = element("p", { className: "reading", hidden: true }, this.words, this.bar);
  }

  /** The server's prompt_progress; null: nothing is being read. */
  show(progress) {
    const { total, cache, processed } = progress ?? { total: 0, cache: 0, processed: 0 };
    this.root.hidden = processed >= total || total - cache < LONG;
    this.words.textContent = this.root.hidden ? "" : `Reading ${number.format(processed)} of ${number.format(total)} tokens`;
    this.bar.max = total || 1;
    this.bar.value = processed;
  }
}
