import { call } from "./call.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { byId, element } from "./element.js";
import { withKey } from "./keyform.js";
import { models } from "./server.js";
import { Strip } from "./strip.js";
import { Thread } from "./thread.js";

const EXAMPLES = [
  "The ferry leaves at nine. Bicycles travel free. When does the ferry leave?",
  "The ferry leaves at nine. Bicycles travel free. What does a ticket cost?",
];

const thread = new Thread(byId("thread"), byId("welcome"));
const strip = new Strip();
const composer = new Composer({ onSend: send, onStop: stop, onIntrinsic: judge });
let conversation = new Conversation();
let running = new AbortController(); // of all calls under way
let base = null;

async function send(text) {
  const at = conversation;
  const asked = { role: "user", content: text, entry: thread.add("user", text) };
  at.add(asked);
  const entry = thread.add("assistant");
  entry.busy = true;
  begin("The model is answering");
  const row = strip.begin("answer", false);
  const answer = await call({ model: base, messages: at.upTo(asked) }, row, running.signal, (said) => entry.say(said));
  if (at !== conversation) return;
  entry.busy = false;
  if (answer.text) {
    at.add({ role: "assistant", content: answer.text, entry });
    if (answer.aborted) entry.note("stopped");
    if (answer.error) entry.fail(answer.error.message);
  } else {
    entry.remove();
    at.messages.splice(at.messages.indexOf(asked), 1);
    asked.entry.root.classList.add("unanswered");
    asked.entry.fail(answer.error ? answer.error.message : answer.aborted ? "Stopped before an answer came." : "The model said nothing.", () => {
      if (composer.busy) return;
      asked.entry.remove();
      send(text);
    });
  }
  end(answer.aborted ? "Stopped" : answer.error ? "Failed" : "");
}

async function judge({ id, invoked_after: role }) {
  const at = conversation;
  const judged = at.judged(role);
  const card = judged.entry.card(id);
  const row = strip.begin(id, true);
  const request = { model: id, messages: at.upTo(judged), result: true };
  const answer = await call(request, row, running.signal, (said) => thread.follow(() => card.progress(said)));
  if (at !== conversation) return;
  thread.follow(() => {
    if (answer.error) card.fail(answer.error.message);
    else if (answer.aborted) card.stopped();
    else card.show(answer.text, answer.result);
  });
}

function begin(status) {
  composer.answering = true;
  byId("status").textContent = status;
  refresh();
}

function end(status) {
  composer.answering = false;
  byId("status").textContent = status;
  refresh();
}

function refresh() {
  composer.allow(({ invoked_after: role }) => Boolean(conversation.judged(role)));
}

function stop() {
  running.abort();
  running = new AbortController();
}

function startOver() {
  stop();
  conversation = new Conversation();
  thread.clear();
  strip.clear();
  end("New conversation");
  composer.fill("");
}

/** Learns what the server serves. */
async function meet() {
  const served = await withKey(models);
  base = served.find((model) => !model.parent).id;
  byId("base").textContent = base;
  document.title = `${base} – alora`;
  composer.offer(served.filter((model) => model.intrinsic));
  refresh();
}

byId("new").onclick = startOver;
for (const text of EXAMPLES) {
  const button = element("button", { type: "button", className: "quiet", onclick: () => composer.fill(text) }, text);
  byId("examples").append(element("li", {}, button));
}
try {
  await meet();
  const elsewhere = document.activeElement !== document.body; // somebody was quicker
  if (!elsewhere && matchMedia("(pointer: fine)").matches) byId("input").focus(); // a finger's would open a keyboard
} catch (e) {
  thread.add("assistant").fail(e.message, () => location.reload());
}
