import { byId } from "./element.js";

const number = new Intl.NumberFormat("en");
const NEARLY = 0.8;

/** How much of the context the conversation fills. */
export class Gauge {
  constructor() {
    this.root = byId("gauge");
    this.words = byId("gauge-words");
    this.bar = byId("gauge-bar");
  }

  /** tokens: as the last answer says; most: of one conversation. */
  show(tokens, most) {
    this.root.hidden = !tokens || !most;
    if (this.root.hidden) return;
    const share = Math.min(1, tokens / most);
    this.root.classList.toggle("nearly", share >= NEARLY);
    this.words.textContent = `${number.format(tokens)} of ${number.format(most)} tokens${share >= NEARLY ? ": nearly full" : ""}`;
    this.bar.style.width = `${100 * share}%`;
  }
}
