import { Entry } from "./entry.js";

const NEAR = 80; // pixels from the end within which the view follows what comes

/** The conversation on the page. */
export class Thread {
  /** acts: what the buttons of a message do, as Entry has them. */
  constructor(root, welcome, acts) {
    this.root = root;
    this.welcome = welcome;
    this.acts = acts;
    this.entries = [];
    this.changes = false;
  }

  /** Shows this conversation. What was there already stays. */
  show(conversation) {
    const path = conversation.path;
    let same = 0;
    while (same < path.length && this.entries[same]?.message === path[same]) same++;
    this.follow(() => {
      for (const entry of this.entries.splice(same)) entry.root.remove();
      for (const message of path.slice(same)) this.add(message);
      this.refresh(conversation);
      this.welcome.hidden = Boolean(this.entries.length);
    });
  }

  /** What can be done with the messages has changed. */
  refresh(conversation) {
    let before;
    this.follow(() => {
      for (const entry of this.entries) {
        entry.refresh(conversation, before);
        if (entry.message.role === "assistant") before = entry.message.warnings;
      }
    });
  }

  add(message) {
    const entry = new Entry(this, message, this.acts);
    this.follow(() => {
      this.welcome.hidden = true;
      this.root.append(entry.root);
    });
    this.entries.push(entry);
    return entry;
  }

  /** Undefined where it is not shown. */
  entryOf(message) {
    return this.entries.find((entry) => entry.message === message);
  }

  /** Makes a change; who was at the end of the conversation stays there. A change of several is measured once. */
  follow(change) {
    if (this.changes) {
      change();
      return;
    }
    const { scrollHeight, scrollTop, clientHeight } = this.root;
    this.changes = true;
    try {
      change();
    } finally {
      this.changes = false;
    }
    if (scrollHeight - scrollTop - clientHeight < NEAR) this.root.scrollTop = this.root.scrollHeight;
  }

  end() {
    this.root.scrollTop = this.root.scrollHeight;
  }
}
