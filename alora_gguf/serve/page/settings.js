import { byId } from "./element.js";
import { ofBrowser } from "./memory.js";

const KEPT = "alora-settings";
const NUMBERS = ["temperature", "top_p", "max_tokens"];
const NAMES = ["system", ...NUMBERS, "enable_thinking", "reasoning_effort"];

/** What the person has set, kept in the browser. */
export class Settings {
  constructor() {
    this.dialog = byId("settings");
    this.fields = Object.fromEntries(NAMES.map((name) => [name, byId(name)]));
    this.readable = {};
    const kept = JSON.parse(ofBrowser.getItem(KEPT) ?? "{}");
    for (const name of NAMES) {
      this.fields[name].value = kept[name] ?? "";
      this.fields[name].oninput = () => this.keep();
    }
    byId("open-settings").onclick = () => this.dialog.showModal();
    byId("reset-settings").onclick = () => {
      for (const field of Object.values(this.fields)) field.value = "";
      this.keep();
      this.fields.system.focus();
    };
    this.dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      this.dialog.close();
    };
    this.dialog.onclick = (event) => {
      if (event.target === this.dialog) this.dialog.close(); // beside it
    };
  }

  /** Offers what the model's template can: /v1/models' chat_template. */
  offer(template = {}) {
    this.readable = template;
    byId("thinking-row").hidden = !template.enable_thinking;
    byId("effort-row").hidden = !template.reasoning_effort;
  }

  keep() {
    ofBrowser.setItem(KEPT, JSON.stringify(Object.fromEntries(NAMES.map((name) => [name, this.fields[name].value]))));
  }

  get system() {
    return this.fields.system.value.trim();
  }

  /** Fields of a request for an answer; none of what is empty or what no model takes. */
  get fieldsOfRequest() {
    const { enable_thinking: thinking, reasoning_effort: effort } = this.fields;
    const given = NUMBERS.filter((name) => this.fields[name].value !== "" && this.fields[name].validity.valid);
    return {
      ...Object.fromEntries(given.map((name) => [name, Number(this.fields[name].value)])),
      ...(this.readable.enable_thinking && thinking.value && { enable_thinking: thinking.value === "true" }),
      ...(this.readable.reasoning_effort && effort.value && { reasoning_effort: effort.value }),
    };
  }
}
