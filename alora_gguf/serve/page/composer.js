import { byId, element } from "./element.js";

/** Where a message is written, and intrinsics are asked. `onText` hears of each change of what is written. */
export class Composer {
  constructor({ onSend, onStop, onIntrinsic, onAll, onDecide, onText }) {
    this.form = byId("composer");
    this.input = byId("input");
    this.send = byId("send");
    this.stop = byId("stop");
    this.group = byId("intrinsics");
    this.decide = byId("decide");
    this.decide.onclick = onDecide;
    this.refusal = byId("refusal");
    this.buttons = [];
    this.onIntrinsic = onIntrinsic;
    this.onAll = onAll;
    this.busy = false;
    this.form.onsubmit = (event) => {
      event.preventDefault();
      const text = this.input.value.trim();
      if (this.busy || !text) return;
      this.fill("");
      onSend(text);
    };
    this.input.oninput = () => {
      this.refresh();
      this.refuse("");
      onText(this.input.value);
    };
    this.input.onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.form.requestSubmit();
    };
    this.stop.onclick = () => {
      onStop();
      this.focus();
    };
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open], :popover-open")) onStop();
    });
  }

  /** A button for each intrinsic, and one for all. */
  offer(intrinsics) {
    for (const { button } of this.buttons) button.remove();
    this.buttons = intrinsics.map((about) => {
      const judges = { user: "your last message", assistant: "the model's last answer" }[about.invoked_after] ?? "the last message";
      const title = [about.description, `Judges ${judges}`].filter(Boolean).join("\n");
      return { about, button: this.button(about.id, title, () => this.onIntrinsic(about)) };
    });
    if (intrinsics.length > 1) {
      const all = () => this.onAll(this.buttons.filter(({ button }) => !button.disabled && button !== first.button).map(({ about }) => about));
      const first = { about: null, button: this.button("All", "Asks all intrinsics at once", all) };
      first.button.ariaLabel = "All intrinsics";
      this.buttons.unshift(first);
    }
    this.decide.before(...this.buttons.map(({ button }) => button));
    byId("intrinsics-title").hidden = !intrinsics.length;
    this.group.hidden = false;
  }

  button(text, title, onclick) {
    return element("button", { type: "button", className: "intrinsic", disabled: true, title, onclick }, text);
  }

  /** can: whether an intrinsic has something to judge. */
  allow(can) {
    for (const { about, button } of this.buttons) button.disabled = about ? !can(about) : !this.buttons.some(({ about }) => about && can(about));
  }

  /** While an answer comes: Stop in place of Send. */
  set answering(on) {
    this.busy = on;
    this.send.hidden = on;
    this.stop.hidden = !on;
    if (on || document.activeElement === document.body) this.focus();
  }

  /** To where is written, unless that opens a keyboard over what is to be read. */
  focus() {
    if (!matchMedia("(pointer: coarse)").matches) this.input.focus();
  }

  /** Says why what was written was not sent; "": it says nothing. */
  refuse(why) {
    this.refusal.textContent = why;
    this.refusal.hidden = !why;
  }

  fill(text, focus = true) {
    this.refuse("");
    this.input.value = text;
    this.refresh();
    if (focus) this.focus();
  }

  refresh() {
    this.send.disabled = !this.input.value.trim();
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
  }
}
