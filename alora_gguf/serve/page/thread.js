import { Card } from "./card.js";
import { element } from "./element.js";

const NAMES = { user: "You", assistant: "Model" };
const NEAR = 80; // pixels from the end within which the view follows what comes

/** The conversation on the page. */
export class Thread {
  constructor(root, welcome) {
    this.root = root;
    this.welcome = welcome;
  }

  add(role, text = "") {
    const entry = new Entry(this, role, text);
    this.follow(() => {
      this.welcome.hidden = true;
      this.root.append(entry.root);
    });
    return entry;
  }

  clear() {
    this.root.replaceChildren(this.welcome);
    this.welcome.hidden = false;
  }

  /** Makes a change; who was at the end of the conversation stays there. */
  follow(change) {
    const { scrollHeight, scrollTop, clientHeight } = this.root;
    change();
    if (scrollHeight - scrollTop - clientHeight < NEAR) this.root.scrollTop = this.root.scrollHeight;
  }
}

/** One message, with its cards. */
class Entry {
  constructor(thread, role, text) {
    this.thread = thread;
    this.body = element("p", { className: "text" }, text);
    this.list = element("ul", { className: "cards", ariaLabel: "What intrinsics say about it", hidden: true });
    this.root = element("article", { className: role, ariaLabel: NAMES[role] ?? role },
      element("h2", { className: "who" }, NAMES[role] ?? role), this.body, this.list);
    this.cards = new Map();
  }

  /** Shows the text so far; screen readers wait for the end of it. */
  say(text) {
    this.thread.follow(() => (this.body.textContent = text));
  }

  set busy(on) {
    this.root.ariaBusy = String(on);
    this.root.classList.toggle("busy", on);
  }

  note(text) {
    this.thread.follow(() => this.root.insertBefore(element("p", { className: "note" }, text), this.list));
  }

  /** One line about what went wrong; with `again`, a button for that. */
  fail(message, again) {
    const line = element("p", { className: "error" }, message);
    if (again) line.append(" ", element("button", { type: "button", className: "quiet", onclick: again }, "Try again"));
    this.thread.follow(() => this.root.insertBefore(line, this.list));
  }

  /** An empty card of an intrinsic, in place of the one that it had here. */
  card(name) {
    const card = new Card(name);
    const old = this.cards.get(name);
    this.thread.follow(() => {
      if (old) old.root.replaceWith(card.root);
      else this.list.append(card.root);
      this.list.hidden = false;
    });
    this.cards.set(name, card);
    return card;
  }

  remove() {
    this.root.remove();
  }
}
