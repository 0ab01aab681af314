import { byId } from "./element.js";

/** The form that asks a typed question. `onAsk` gets it, as decision.js has it. */
export class Decider {
  constructor(onAsk) {
    this.dialog = byId("decider");
    this.asks = byId("decider-asks");
    this.options = byId("decider-options");
    byId("decider-cancel").onclick = () => this.dialog.close();
    this.dialog.onclick = (event) => {
      if (event.target === this.dialog) this.dialog.close(); // beside it
    };
    this.dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      const asks = this.asks.value.trim(), options = this.options.value.split("\n").map((line) => line.trim()).filter(Boolean);
      if (!asks) return;
      this.dialog.close();
      this.asks.value = this.options.value = "";
      onAsk(options.length ? { asks, options } : { asks });
    };
  }

  open() {
    this.dialog.showModal();
    this.asks.focus();
  }
}
