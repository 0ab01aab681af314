import { joined } from "./conversation.js";

const HEADS = "heads", BODIES = "bodies"; // what the list shows; all of a conversation

/** The conversations in this browser. What it does not keep, as where its disk is full, lasts as long as the page, and `lasts` says so.
 * `onchange` is called with the id of one that another tab has changed. */
export class Store {
  onchange = () => {};
  db = null;
  memory = new Map(); // {id, name, changed, body} of those that it does not keep

  static async open() {
    const store = new Store();
    try {
      store.db = await answered(Object.assign(indexedDB.open("alora", 1), {
        onupgradeneeded: ({ target: { result: db } }) => [HEADS, BODIES].forEach((name) => db.createObjectStore(name, { keyPath: "id" })),
      }));
      store.db.onclose = () => (store.db = null); // as where somebody clears what it has
    } catch { /* it keeps nothing */ }
    store.others = new BroadcastChannel("alora");
    store.others.onmessage = ({ data }) => store.onchange(data);
    return store;
  }

  get lasts() {
    return this.db !== null && !this.memory.size;
  }

  /** {id, name, changed} of each, the newest first. */
  async heads() {
    const kept = this.db ? await answered(this.db.transaction(HEADS).objectStore(HEADS).getAll()) : [];
    const heads = [...kept.filter(({ id }) => !this.memory.has(id)), ...this.memory.values()];
    return heads.map(({ id, name, changed }) => ({ id, name, changed })).sort((a, b) => b.changed - a.changed);
  }

  async get(id) {
    if (this.memory.has(id) || !this.db) return this.memory.get(id)?.body;
    return answered(this.db.transaction(BODIES).objectStore(BODIES).get(id));
  }

  async put(conversation, name) {
    const body = structuredClone({ ...conversation }), { id, changed } = body, head = { id, name, changed };
    try {
      await this.write(id, (kept, heads, bodies) => (heads.put(head), bodies.put(joined(body, kept))));
      this.memory.delete(id);
    } catch {
      this.memory.set(id, { ...head, body });
    }
    this.others.postMessage(id);
  }

  async remove(id) {
    this.memory.delete(id);
    if (this.db) await this.write(id, (_, heads, bodies) => (heads.delete(id), bodies.delete(id)));
    this.others.postMessage(id);
  }

  /** change(kept, heads, bodies) gets what is kept of one, with which no other tab does anything meanwhile. */
  write(id, change) {
    const transaction = this.db.transaction([HEADS, BODIES], "readwrite");
    const heads = transaction.objectStore(HEADS), bodies = transaction.objectStore(BODIES);
    bodies.get(id).onsuccess = ({ target: { result: kept } }) => {
      change(kept, heads, bodies);
      transaction.commit(); // at once: the page may be going away
    };
    return new Promise((done, failed) => Object.assign(transaction, { oncomplete: done, onabort: () => failed(transaction.error) }));
  }
}

function answered(request) {
  return new Promise((done, failed) => Object.assign(request, { onsuccess: () => done(request.result), onerror: () => failed(request.error), onblocked: failed }));
}
