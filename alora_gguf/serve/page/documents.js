import { byId, element } from "./element.js";
import { count, extract } from "./server.js";

const number = new Intl.NumberFormat("en");
const PLAIN = /\.(txt|text|md|markdown|rst|tex|csv|tsv|json|jsonl|ya?ml|toml|ini|log|sql|css|[cm]?[jt]sx?|py|rb|rs|go|java|kt|swift|c|h|cc|cpp|hpp|cs|sh|r|lua|php)$/i;

/** The documents of a conversation, where it is written. `onChange` hears of a conversation
 * that has others; until `opened` there is none. */
export class Documents {
  most = Infinity; // tokens of a conversation
  files = new WeakMap(); // of documents, as long as the page has them
  turns = new WeakMap(); // in which they were given, which is not the one in which they are read
  turn = 0;

  constructor(onChange, opened) {
    this.onChange = onChange;
    this.opened = opened;
    this.list = byId("documents");
    this.reading = new Set(); // what is being read
    this.rows = []; // of what is being read or was refused: {into, row}
    this.at = null;
    const files = byId("files");
    byId("attach").onclick = () => files.click();
    files.onchange = () => {
      this.add([...files.files]);
      files.value = "";
    };
    const brings = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
    addEventListener("dragover", (event) => {
      if (!brings(event)) return;
      event.preventDefault();
      document.body.classList.add("dropping");
    });
    addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
    addEventListener("drop", (event) => {
      document.body.classList.remove("dropping");
      if (!brings(event)) return;
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
    });
    byId("input").addEventListener("paste", (event) => {
      const { files, types } = event.clipboardData, given = [...files];
      const isText = types.includes("text/plain") && given.every(({ type }) => type.startsWith("image/")); // a picture of it comes along
      if (!given.length || isText) return;
      event.preventDefault();
      this.add(given);
    });
  }

  /** Those of the conversation that is open. */
  show(conversation) {
    this.at = conversation;
    this.refresh();
  }

  refresh() {
    const others = this.rows.filter(({ into }) => into.id === this.at.id).map(({ row }) => row);
    this.list.replaceChildren(...this.at.documents.map((document) => this.row(document)), ...others);
    this.list.hidden = !this.list.children.length;
  }

  /** Until all that were given are read, or `signal` says that nobody waits for them. */
  async read(signal) {
    const stopped = new Promise((done) => (signal.aborted ? done() : signal.addEventListener("abort", done, { once: true })));
    await Promise.race([Promise.all(this.reading), stopped]);
  }

  add(files) {
    for (const file of files) {
      const work = this.addOne(file).finally(() => this.reading.delete(work));
      this.reading.add(work);
    }
  }

  async addOne(file) {
    const turn = ++this.turn;
    await this.opened;
    const into = this.at;
    const row = element("li", { ariaBusy: "true" }, element("span", { className: "name", dir: "auto" }, file.name), element("span", { className: "size" }, "reading…"));
    const remove = () => (this.rows = this.rows.filter((other) => other.row !== row));
    this.rows.push({ into, row });
    this.refresh();
    try {
      const read = await this.readOne(file), at = this.now(into);
      this.turns.set(read, turn);
      const later = at.documents.findIndex((other) => this.turns.get(other) > turn);
      at.documents.splice(later < 0 ? at.documents.length : later, 0, read);
      remove();
      this.refresh();
      this.onChange(at);
    } catch (e) {
      row.ariaBusy = "false";
      row.classList.add("refused");
      row.lastChild.textContent = why(e, file);
      row.append(remover(file.name, () => this.drop(remove)));
    }
  }

  /** A conversation, which may have been opened anew meanwhile. */
  now(conversation) {
    return this.at.id === conversation.id ? this.at : conversation;
  }

  async readOne(file, part) {
    const { title, text, kind, pages, note } = await textOf(file, part);
    if (!text.trim()) throw new Error("expected text, got none; check the file");
    const tokens = await count(text).catch((e) => {
      if (e.status === 413) throw e; // the server would take no request with it
      return null;
    });
    const read = { title: title || file.name, text, kind, pages, part, note, tokens };
    this.files.set(read, file);
    return read;
  }

  /** Some pages of a PDF in its place. */
  async take(given, part, row) {
    const into = this.at, file = this.files.get(given), said = row.querySelector(".size");
    row.ariaBusy = "true";
    said.textContent = "reading…";
    try {
      const read = await this.readOne(file, part), at = this.now(into);
      at.documents.splice(into.documents.indexOf(given), 1, read);
      this.refresh();
      byId("input").focus();
      this.onChange(at);
    } catch (e) {
      row.ariaBusy = "false";
      said.textContent = why(e, file);
    }
  }

  /** Asks which pages of a PDF that is too long. */
  chooser(given, row) {
    const { title, pages, tokens } = given, fit = Math.max(1, Math.floor((pages * this.most) / (2 * tokens)));
    const field = element("input", { value: `1-${fit}`, ariaLabel: `Pages of ${title}`, autocomplete: "off" });
    const take = () => {
      const work = this.take(given, field.value.trim(), row).finally(() => this.reading.delete(work));
      this.reading.add(work);
    };
    field.onkeydown = (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      take();
    };
    return element("div", { className: "pages" }, "Pages", field, element("button", { type: "button", className: "quiet", onclick: take }, "Take these"));
  }

  row(given) {
    const { title, text, tokens, pages, part, note } = given;
    const size = [pages > 1 && (part ? `pages ${part} of ${number.format(pages)}` : `${number.format(pages)} pages`), tokens ? `${number.format(tokens)} tokens` : `${number.format(text.length)} characters`, note];
    const row = element("li", { title }, element("span", { className: "name", dir: "auto" }, title), element("span", { className: "size" }, size.filter(Boolean).join(", ")));
    if (tokens > this.most) {
      row.classList.add("refused");
      const canTake = pages > 1 && this.files.has(given);
      const what = canTake ? "take some of its pages" : "attach a part of it, or start the server with a larger --ctx";
      row.lastChild.textContent += `, more than the context of ${number.format(this.most)}; ${what}`;
      if (canTake) row.append(this.chooser(given, row));
    }
    row.append(remover(title, () => {
      const { documents } = this.at;
      this.drop(() => documents.splice(documents.indexOf(given), 1));
      this.onChange(this.at);
    }));
    return row;
  }

  drop(remove) {
    remove();
    this.refresh();
    (this.list.querySelector("button") ?? byId("input")).focus();
  }
}

function remover(name, onclick) {
  return element("button", { type: "button", className: "act", ariaLabel: `Remove ${name}`, onclick }, "×");
}

/** Plain text is read here; what is something else, or in another encoding, is for the server. */
async function textOf(file, pages) {
  await file.slice(0, 1).arrayBuffer().catch(() => {
    throw new Error("expected a file that can be read, got a folder or a file that has changed; attach it again");
  });
  if (PLAIN.test(file.name) || /^text\/(plain|markdown|csv)/.test(file.type)) {
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
      if (!text.includes("\0")) return { title: file.name, text, kind: "text" };
    } catch { /* the server knows more encodings */ }
  }
  return extract(file, pages);
}

/** Without the file's name, which stands beside it. */
function why({ message }, file) {
  return message.replace(`${file.name}: `, "");
}
