import { byId, element } from "./element.js";

/** The list of conversations. `acts`: open(id); rename(name), remove() and save(kind) of that which is open; restore(), take(file). */
export class Shelf {
  constructor(acts) {
    this.acts = acts;
    this.root = byId("shelf");
    this.list = byId("conversations");
    this.gone = byId("gone");
    const file = byId("import-file");
    byId("import").onclick = () => file.click();
    file.onchange = async () => {
      if (file.files.length) await acts.take(file.files[0]);
      file.value = "";
    };
  }

  /** heads: {id, name} of each, in order; current: the id of the one that is open. */
  show(heads, current) {
    const shown = JSON.stringify([current, heads.map(({ id, name }) => [id, name])]);
    if (shown === this.shown || this.list.querySelector("input")) return; // a name is being written
    this.shown = shown;
    const held = this.list.contains(document.activeElement) && document.activeElement.textContent;
    this.list.replaceChildren(...heads.map((head) => this.row(head, head.id === current)));
    if (held) [...this.list.querySelectorAll("button")].find(({ textContent }) => textContent === held)?.focus();
  }

  row({ id, name }, isOpen) {
    const shown = name || "New conversation";
    const open = element("button", { type: "button", className: "open", dir: "auto", title: shown, onclick: () => this.opened(id) }, shown);
    if (isOpen) open.setAttribute("aria-current", "true");
    const row = element("li", { className: isOpen ? "current" : "" }, open);
    const act = (text, label, onclick) => element("button", { type: "button", className: "act", ariaLabel: label, onclick }, text);
    if (isOpen) row.append(element("div", { className: "acts" },
      act("Rename", "Rename the conversation", () => this.rename(open, name)),
      act("Markdown", "Save as Markdown", () => this.acts.save("md")),
      act("JSON", "Save as JSON", () => this.acts.save("json")),
      act("Delete", "Delete the conversation", () => this.acts.remove())));
    return row;
  }

  async opened(id) {
    await this.acts.open(id);
    this.close();
  }

  /** Where it lies over the page, it goes. */
  close() {
    if (this.root.matches(":popover-open")) this.root.hidePopover();
  }

  rename(open, name) {
    const field = element("input", { value: name, ariaLabel: "Name of the conversation", maxLength: 200, dir: "auto" });
    let over = false;
    const end = async (kept) => {
      if (over) return;
      over = true;
      field.replaceWith(open);
      await this.acts.rename(kept ? field.value.trim() : name);
      this.list.querySelector('[aria-label="Rename the conversation"]')?.focus();
    };
    field.onkeydown = (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") end(true);
      else if (event.key === "Escape") end(false);
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    field.onblur = () => end(true);
    open.replaceWith(field);
    field.focus();
    field.select();
  }

  failed(message) {
    this.gone.replaceChildren(element("span", { className: "error" }, message));
  }

  /** Says that it is gone, and lets it come back; null: nothing is. */
  removed(name) {
    if (name === null) this.gone.replaceChildren();
    else {
      const undo = element("button", { type: "button", className: "quiet", onclick: () => this.acts.restore() }, "Undo");
      this.gone.replaceChildren(`Deleted “${name || "New conversation"}”. `, undo);
      undo.focus();
    }
  }
}
