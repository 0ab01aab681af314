import { Composer } from "./composer.js";
import { Conversation, shortened } from "./conversation.js";
import { Decider } from "./decider.js";
import { questionIn } from "./decision.js";
import { Documents } from "./documents.js";
import { drafts } from "./drafts.js";
import { byId, element } from "./element.js";
import { describe, offerExamples } from "./examples.js";
import { Gauge } from "./gauge.js";
import { withKey } from "./keyform.js";
import { ofTab } from "./memory.js";
import { models, whenLocked } from "./server.js";
import { Settings } from "./settings.js";
import { Shelf } from "./shelf.js";
import { Store } from "./store.js";
import { Strip } from "./strip.js";
import { Talk } from "./talk.js";
import { Thread } from "./thread.js";
import { asMarkdown, conversationOf, fileName, save } from "./transfer.js";

const OPEN = "alora-open"; // the conversation of this tab
const DECIDE = /^\/decide(?:\s+([^]*))?$/; // as alora chat has it

const opened = Store.open().then(begin);
const settings = new Settings();
const documents = new Documents((conversation) => keep(conversation), opened);
const composer = new Composer({
  onSend: async (text) => {
    await opened;
    const [asked, line] = DECIDE.exec(text) ?? [];
    if (line && !talk.at.judged()) composer.fill(text); // it is there still when something has been said
    else drafts.keep(talk.at.id, "");
    if (asked) decide(line);
    else talk.send(text);
  },
  onStop: () => talk.stop(),
  onIntrinsic: (about) => talk.judge(about),
  onAll: (all) => talk.judgeAll(all),
  onDecide: () => decide(),
  onText: async (text) => {
    await opened;
    drafts.keep(talk.at.id, text);
    if (!talk.at.messages.length) keep();
  },
});
const talk = new Talk({ strip: new Strip(), gauge: new Gauge(), composer, documents, settings, keep });
const decider = new Decider((question) => talk.decide(question));
const shelf = new Shelf({ open, rename, remove, restore, save: saveAs, take });
let store, served = [], removed = null, unlocking = null;

talk.thread = new Thread(byId("thread"), byId("welcome"), {
  edit: (message, text) => talk.edit(message, text),
  again: (message) => talk.again(message),
  more: (message) => talk.more(message),
  show: (message) => talk.show(message),
  judge: (name, message) => talk.judge(served.find(({ id }) => id === name) ?? { id: name }, message),
  decide: (question, message) => talk.decide(question, message),
  about: (name) => served.find(({ id }) => id === name)?.description ?? "",
});

/** Keeps the conversation in the browser, unless there is nothing in it. */
async function keep(conversation = talk.at) {
  const draft = drafts.of(conversation.id);
  if (removed?.id === conversation.id) return;
  conversation.changed ||= Date.now();
  if (conversation.isEmpty && !draft) await store.remove(conversation.id).catch(() => {}); // there is nothing in it to be lost
  else await store.put(conversation, conversation.name || shortened(draft));
  byId("forgets").hidden = store.lasts;
  await list();
}

async function list() {
  shelf.show(await store.heads(), talk.at.id);
}

/** Opens one that was kept, or a new one where none was. One that is open stays as it is. */
async function open(id) {
  if (id === talk.at.id) return;
  const kept = id && (await store.get(id));
  await show(kept ? Conversation.opened(kept) : new Conversation(id && { id }));
  composer.fill(drafts.of(talk.at.id));
}

function show(conversation) {
  ofTab.setItem(OPEN, conversation.id);
  talk.open(conversation);
  return list();
}

async function rename(title) {
  const { at } = talk;
  if (title !== at.name) at.title = title;
  await keep(at);
}

async function remove() {
  const { at } = talk, { id, name, messages } = at, draft = drafts.of(id);
  talk.stop();
  removed = { id, at, draft };
  for (const gone of [id, ...messages.map((message) => message.id)]) drafts.keep(gone, "");
  await store.remove(id);
  await open();
  shelf.removed(name || shortened(draft));
}

async function restore() {
  const { id, at, draft } = removed;
  removed = null;
  shelf.removed(null);
  drafts.keep(id, draft);
  await show(Conversation.opened(at));
  composer.fill(draft);
  await keep();
}

function saveAs(kind) {
  const { at } = talk;
  if (kind === "md") save(fileName(at, "md"), asMarkdown(at), "text/markdown");
  else save(fileName(at, "json"), JSON.stringify(talk.request(at, at.path.at(-1)), null, 2), "application/json");
}

async function take(file) {
  try {
    const conversation = conversationOf(await file.text(), file.name);
    await show(conversation);
    composer.fill("");
    await keep();
    shelf.close();
    shelf.removed((removed = null));
  } catch (e) {
    shelf.failed(e.message);
  }
}

/** Asks the typed question of a line, or for one. */
function decide(line) {
  if (!talk.at.judged()) composer.refuse("Decide asks about what has been said: say something first.");
  else if (line) talk.decide(questionIn(line));
  else decider.open();
}

async function tryOut({ say, ask }) {
  const { at } = talk;
  await talk.send(say);
  if (talk.at !== at || at.path.at(-1).role !== "assistant" || at.path.at(-1).ended === "stopped") return;
  await met;
  talk.judgeAll(served.filter(({ id, invoked_after: role }) => id in ask && at.judged(role)));
}

/** Learns what the server serves. */
async function meet() {
  served = await withKey(models);
  const base = served.find((model) => !model.parent);
  talk.base = base.id;
  talk.decider = served.find(({ decides }) => decides)?.id ?? base.id;
  talk.most = documents.most = base.max_model_len;
  byId("base").textContent = base.id;
  document.title = `${base.id} – alora`;
  settings.offer(base.chat_template);
  documents.show(talk.at);
  const intrinsics = served.filter((model) => model.intrinsic);
  composer.offer(intrinsics);
  describe(intrinsics);
  talk.refresh("");
}

/** Asks for a key, once, where the server has another since. */
function unlock() {
  unlocking ??= withKey(models).catch(() => {}).finally(() => (unlocking = null));
}

/** What this tab had open, or a new conversation; what is written already stays. */
async function begin(found) {
  store = found;
  byId("forgets").hidden = store.lasts;
  const id = ofTab.getItem(OPEN), kept = id && (await store.get(id));
  await show(kept ? Conversation.opened(kept) : new Conversation(id && { id }));
  if (composer.input.value) drafts.keep(talk.at.id, composer.input.value);
  else composer.fill(drafts.of(talk.at.id), false);
  store.onchange = follow;
}

/** Another tab has gone on with this conversation. */
async function follow(id) {
  const isIdle = () => id === talk.at.id && !document.querySelector("[aria-busy=true]");
  const kept = isIdle() && (await store.get(id));
  if (kept && isIdle() && JSON.stringify(kept) !== JSON.stringify(talk.at)) await show(Conversation.opened(kept));
  else await list();
}

byId("new").onclick = async () => {
  await opened;
  shelf.close();
  shelf.removed((removed = null));
  await open();
  byId("status").textContent = "New conversation";
};
await opened;
offerExamples(tryOut).catch(() => {}); // the server is away, as the next line says
const met = meet();
try {
  await met;
  whenLocked(unlock);
  if (document.activeElement === document.body) composer.focus(); // nobody was quicker
} catch (e) {
  byId("welcome").append(element("p", { className: "error" }, e.message, " ", element("button", { type: "button", className: "quiet", onclick: () => location.reload() }, "Try again")));
}
