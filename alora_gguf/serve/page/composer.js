import { byId, element } from "./element.js";

/** Where a message is written, and intrinsics are asked. */
export class Composer {
  constructor({ onSend, onStop, onIntrinsic }) {
    this.form = byId("composer");
    this.input = byId("input");
    this.send = byId("send");
    this.stop = byId("stop");
    this.group = byId("intrinsics");
    this.buttons = [];
    this.onIntrinsic = onIntrinsic;
    this.busy = false;
    this.form.onsubmit = (event) => {
      event.preventDefault();
      const text = this.input.value.trim();
      if (this.busy || !text) return;
      this.fill("");
      onSend(text);
    };
    this.input.oninput = () => this.refresh();
    this.input.onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.form.requestSubmit();
    };
    this.stop.onclick = () => {
      onStop();
      this.input.focus();
    };
    document.addEventListener("keydown", (event) => event.key === "Escape" && onStop());
  }

  /** A button for each intrinsic. */
  offer(intrinsics) {
    for (const { button } of this.buttons) button.remove();
    this.buttons = intrinsics.map((about) => {
      const judges = { user: "your last message", assistant: "the model's last answer" }[about.invoked_after] ?? "the last message";
      const title = [about.description, `Judges ${judges}`].filter(Boolean).join("\n");
      const button = element("button", { type: "button", className: "intrinsic", disabled: true, title }, about.id);
      button.onclick = () => this.onIntrinsic(about);
      this.group.append(button);
      return { about, button };
    });
    this.group.hidden = !intrinsics.length;
  }

  /** can: whether an intrinsic has something to judge. */
  allow(can) {
    for (const { about, button } of this.buttons) button.disabled = !can(about);
  }

  /** While an answer comes: Stop in place of Send. */
  set answering(on) {
    this.busy = on;
    this.send.hidden = on;
    this.stop.hidden = !on;
    if (on || document.activeElement === document.body) this.input.focus();
  }

  fill(text) {
    this.input.value = text;
    this.refresh();
    this.input.focus();
  }

  refresh() {
    this.send.disabled = !this.input.value.trim();
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
  }
}
