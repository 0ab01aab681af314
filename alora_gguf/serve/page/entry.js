import { Card } from "./card.js";
import { textOf } from "./conversation.js";
import { copyButton } from "./copy.js";
import { drafts } from "./drafts.js";
import { element } from "./element.js";
import { Markdown } from "./markdown.js";
import { Reading } from "./reading.js";

const NAMES = { user: "You", assistant: "Model", system: "System", developer: "System", tool: "Tool" };

/** One message, with its cards. `acts` are what its buttons do: edit(message, text), again(message), more(message), show(message),
 * judge(name, message), decide(question, message), and about(name): what an intrinsic is for. */
export class Entry {
  constructor(thread, message, acts) {
    this.thread = thread;
    this.message = message;
    this.acts = acts;
    const { role } = message;
    this.body = element(role === "assistant" ? "div" : "p", { className: "text", dir: role === "assistant" ? "" : "auto" });
    this.markdown = role === "assistant" ? new Markdown(this.body) : null;
    this.thought = element("details", { className: "thought", hidden: true }, element("summary", {}, "Thought"), element("div", { className: "inside", dir: "auto" }));
    this.reading = new Reading();
    this.tools = element("ul", { className: "tools", ariaLabel: "Calls of tools", hidden: true });
    this.notes = element("div", { className: "notes" });
    this.tray = element("div", { className: "acts" });
    this.list = element("ul", { className: "cards", ariaLabel: "What intrinsics say about it", hidden: true });
    this.root = element("article", { className: role, ariaLabel: NAMES[role] ?? role },
      element("h2", { className: "who" }, NAMES[role] ?? role), this.reading.root, this.thought, this.body, this.tools, this.notes, this.tray, this.list);
    this.cards = new Map();
    this.say(true);
    if (message.id && drafts.of(message.id)) this.edit(false);
    for (const [name, found] of Object.entries(message.cards ?? {})) {
      const { question } = found;
      this.card(name, question).show(found, () => (question ? acts.decide(question, message) : acts.judge(name, message)));
    }
  }

  /** Shows the message as it is now: at once, or with the browser's next frame. Screen readers wait for the end of it. */
  say(whole = false) {
    if (!whole) {
      this.frame ??= requestAnimationFrame(() => this.draw(false));
      return;
    }
    cancelAnimationFrame(this.frame);
    this.draw(true);
  }

  draw(whole) {
    this.frame = undefined;
    const { content, reasoning_content: thought, tool_calls: tools = [] } = this.message;
    this.thread.follow(() => {
      if (content || thought || tools.length) this.reading.show(null);
      if (this.markdown) this.markdown.show(content ?? "", whole);
      else this.body.textContent = textOf(content);
      this.thought.hidden = !thought;
      this.thought.firstChild.textContent = !whole && !content ? "Thinking…" : "Thought";
      this.thought.lastChild.textContent = thought ?? "";
      this.tools.hidden = !tools.length;
      this.tools.replaceChildren(...tools.map(toolCall));
    });
  }

  /** How much of a long prompt is read, as Reading has it. */
  read(progress) {
    this.thread.follow(() => this.reading.show(progress));
  }

  set busy(on) {
    if (!on) this.reading.show(null);
    this.root.ariaBusy = String(on);
    this.root.classList.toggle("busy", on);
  }

  get busy() {
    return this.root.classList.contains("busy");
  }

  /** Its notes and buttons. `before` are warnings of the answer before, which need not be said again. */
  refresh(conversation, before = []) {
    const { message, acts } = this, { role, unanswered, ended } = message;
    const warnings = (message.warnings ?? []).filter((warning) => !before.includes(warning));
    this.root.classList.toggle("unanswered", Boolean(unanswered) && !this.busy);
    const notes = warnings.map((warning) => element("p", { className: "note" }, warning));
    if (this.busy) notes.length = 0;
    else if (ended === "length") notes.push(element("p", { className: "note" }, "Cut: the answer has as many tokens as it may. ", act("Continue", "Continue the answer", () => acts.more(message))));
    else if (ended === "stopped") notes.push(element("p", { className: "note" }, "stopped"));
    const error = unanswered ?? message.error;
    if (error && !this.busy) {
      const again = element("button", { type: "button", className: "quiet", onclick: () => acts.again(message) }, "Try again");
      notes.push(element("p", { className: "error" }, error, " ", again));
    }
    const held = this.tray.contains(document.activeElement) ? document.activeElement.ariaLabel : null;
    const buttons = this.busy ? [] : this.buttons(conversation);
    this.thread.follow(() => {
      this.notes.replaceChildren(...notes);
      this.tray.replaceChildren(...buttons);
    });
    if (held) buttons.find(({ ariaLabel }) => ariaLabel === held)?.focus();
    this.role = role;
  }

  buttons(conversation) {
    const { message, acts } = this, { role } = message, buttons = [];
    const versions = conversation.versions(message), at = versions.indexOf(message);
    if (versions.length > 1) {
      const step = (by, sign, label) => Object.assign(act(sign, label, () => acts.show(versions[at + by])), { disabled: !versions[at + by] });
      buttons.push(step(-1, "‹", "Version before"), element("span", { className: "version" }, `${at + 1} of ${versions.length}`), step(1, "›", "Version behind"));
    }
    buttons.push(copyButton(role === "assistant" ? "Copy the answer" : "Copy the message", () => textOf(message.content)));
    if (["user", "tool"].includes(role) && !message.unanswered && !message.error && this.thread.entries.at(-1) === this) buttons.push(act("Answer", "Answer the message", () => acts.again(message)));
    if (role === "user") buttons.push(act("Edit", "Edit the message", () => this.edit()));
    if (role === "assistant") buttons.push(act("Ask again", "Ask again", () => acts.again(message)));
    return buttons;
  }

  /** The message as a field; sent, it is asked in place of the one that was. `isOpened`: by hand, and not because it was before. */
  edit(isOpened = true) {
    const { id, content } = this.message;
    const field = element("textarea", { value: drafts.of(id) || textOf(content), ariaLabel: "Edited message", rows: 1, dir: "auto" });
    const form = element("form", { className: "edit" }, field, element("div", { className: "acts" },
      element("button", { type: "submit" }, "Send"), element("button", { type: "button", className: "quiet", onclick: () => close() }, "Cancel")));
    const fit = () => Object.assign(field.style, { height: "auto" }) && (field.style.height = `${field.scrollHeight}px`);
    const end = () => {
      drafts.keep(id, "");
      form.remove();
      this.root.classList.remove("edited");
    };
    const close = () => {
      end();
      this.tray.querySelector("[aria-label^=Edit]")?.focus();
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (text && this.acts.edit(this.message, text)) end();
    };
    field.oninput = () => {
      fit();
      drafts.keep(id, field.value);
    };
    form.onkeydown = (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      } else if (event.key === "Enter" && event.target === field && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    };
    this.root.classList.add("edited");
    this.body.after(form);
    requestAnimationFrame(fit); // when it is on the page
    if (!isOpened) return;
    fit();
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  /** The card of an intrinsic, or of a typed question, in place of the one that it had here. */
  card(name, question) {
    const card = new Card(name, question ? "Decided by the likelihood of each answer" : this.acts.about(name), question?.asks);
    const old = this.cards.get(name), held = old?.root.contains(document.activeElement);
    this.thread.follow(() => {
      if (old) old.root.replaceWith(card.root);
      else this.list.append(card.root);
      this.list.hidden = false;
    });
    if (held) card.root.focus();
    this.cards.set(name, card);
    return card;
  }
}

function act(text, label, onclick) {
  return element("button", { type: "button", className: "act", ariaLabel: label, onclick }, text);
}

function toolCall({ function: { name, arguments: given } }) {
  let shown = given;
  try {
    shown = JSON.stringify(typeof given === "string" ? JSON.parse(given) : given, null, 1).replace(/\n\s*/g, " ").replace(/^\{ (.*) \}$/, "$1");
  } catch { /* it has not come whole */ }
  return element("li", {}, element("b", {}, name), " ", element("code", {}, shown));
}
