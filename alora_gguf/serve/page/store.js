const HEADS = "heads", BODIES = "bodies"; // what the list shows; all of a conversation

/** The conversations in this browser. Where it keeps nothing for a page they last as long as the page, and `lasts` says so.
 * `onchange` is called with the id of one that another tab has changed. */
export class Store {
  onchange = () => {};

  static async open() {
    const store = new Store();
    try {
      store.db = await answered(Object.assign(indexedDB.open("alora", 1), {
        onupgradeneeded: ({ target: { result: db } }) => [HEADS, BODIES].forEach((name) => db.createObjectStore(name, { keyPath: "id" })),
      }));
    } catch {
      store.memory = new Map();
    }
    store.others = new BroadcastChannel("alora");
    store.others.onmessage = ({ data }) => store.onchange(data);
    return store;
  }

  get lasts() {
    return !this.memory;
  }

  /** {id, name, changed} of each, the newest first. */
  async heads() {
    const heads = this.memory ? [...this.memory.values()] : await answered(this.db.transaction(HEADS).objectStore(HEADS).getAll());
    return heads.map(({ id, name, changed }) => ({ id, name, changed })).sort((a, b) => b.changed - a.changed);
  }

  async get(id) {
    return this.memory ? this.memory.get(id)?.body : (await answered(this.db.transaction(BODIES).objectStore(BODIES).get(id)));
  }

  async put(conversation, name) {
    const body = structuredClone({ ...conversation }), head = { id: body.id, name, changed: body.changed };
    if (this.memory) this.memory.set(body.id, { ...head, body });
    else await this.write((heads, bodies) => (heads.put(head), bodies.put(body)));
    this.others.postMessage(body.id);
  }

  async remove(id) {
    if (this.memory) this.memory.delete(id);
    else await this.write((heads, bodies) => (heads.delete(id), bodies.delete(id)));
    this.others.postMessage(id);
  }

  write(change) {
    const transaction = this.db.transaction([HEADS, BODIES], "readwrite");
    change(transaction.objectStore(HEADS), transaction.objectStore(BODIES));
    transaction.commit();
    return new Promise((done, failed) => Object.assign(transaction, { oncomplete: done, onabort: () => failed(transaction.error) }));
  }
}

function answered(request) {
  return new Promise((done, failed) => Object.assign(request, { onsuccess: () => done(request.result), onerror: () => failed(request.error), onblocked: failed }));
}
