import { ask, call } from "./call.js";
import { underWay } from "./card.js";
import { STOPPED, textOf } from "./conversation.js";
import { nameOf, requestFor } from "./decision.js";
import { byId } from "./element.js";

const SOON = 500; // milliseconds until what comes is kept

/** What is said and asked in the conversation that is open. */
export class Talk {
  base = null; // what the server calls it; most: tokens of a conversation
  most = 0;
  decider = null; // who answers typed questions
  running = new AbortController(); // of all calls under way

  /** keep(conversation) keeps it in the browser. */
  constructor({ strip, gauge, composer, documents, settings, keep }) {
    Object.assign(this, { strip, gauge, composer, documents, settings, keep });
  }

  /** Shows a conversation; what was under way in another has ended. */
  open(conversation) {
    this.stop();
    this.at = conversation;
    this.thread.show(conversation);
    this.thread.end();
    this.strip.show(conversation.calls);
    this.documents.show(conversation);
    this.composer.answering = false;
    this.refresh("");
  }

  refresh(status) {
    const { at } = this;
    byId("status").textContent = status;
    this.composer.allow(({ invoked_after: role }) => Boolean(at.judged(role)));
    this.thread.refresh(at);
    this.gauge.show(at.tokens, this.most);
  }

  stop() {
    this.running.abort();
    this.running = new AbortController();
  }

  async send(text) {
    const asked = this.at.add({ role: "user", content: text });
    this.thread.add(asked);
    await this.answer(asked);
  }

  /** The same question or answer once more. */
  async again(message) {
    if (this.composer.busy) return;
    const { at } = this;
    if (message.unanswered && at.last !== message.id) { // more has been said since
      at.remove(message);
      this.thread.show(at);
      await this.send(textOf(message.content));
      return;
    }
    const asked = message.role === "assistant" ? at.path[at.path.indexOf(message) - 1] : message;
    if (!asked) return;
    at.last = asked.id;
    this.thread.show(at);
    await this.answer(asked);
  }

  /** Another message in place of one; whether it could be sent. */
  edit(message, text) {
    if (this.composer.busy) return false;
    this.at.last = message.before;
    this.thread.show(this.at);
    this.send(text);
    return true;
  }

  /** Another version of what was said. */
  show(message) {
    if (this.composer.busy) return;
    const before = this.thread.root.scrollTop, held = document.activeElement?.ariaLabel;
    this.at.show(message);
    this.thread.show(this.at);
    this.thread.root.scrollTop = before;
    this.thread.entryOf(message)?.root.querySelector(`[aria-label="${held}"]:enabled, [aria-label^=Version]:enabled`)?.focus();
    this.refresh("");
    this.keep(this.at);
  }

  /** More of an answer that was cut. */
  async more(message) {
    if (this.composer.busy) return;
    const { at } = this, body = { ...this.request(at, at.path[at.path.indexOf(message) - 1]), behind: message.content };
    await this.write(at, message, this.thread.entryOf(message), body, { before: message.content, signal: this.running.signal });
    this.refresh("");
  }

  async answer(asked) {
    const { at, running: { signal } } = this;
    delete asked.unanswered;
    delete asked.error;
    const said = { role: "assistant", content: "" };
    const entry = this.thread.add(said);
    this.thread.end(); // who asks wants to see it
    entry.busy = true;
    this.composer.answering = true;
    this.keep(at);
    await this.documents.read(signal);
    if (at !== this.at) return;
    const answer = await this.write(at, said, entry, this.request(at, asked), { signal, onFirst: () => said.id ?? at.add(said) });
    if (!said.id) at.leave(asked, answer.error ? answer.error.message : answer.aborted ? STOPPED : "The model said nothing.");
    this.keep(at);
    if (at !== this.at) return;
    this.thread.show(at);
    this.refresh(answer.aborted ? "Stopped" : answer.error ? "Failed" : "");
  }

  /** Lets the model write on `said`, which has `before` already. */
  async write(at, said, entry, body, { before = "", signal, onFirst = () => {} }) {
    const row = this.strip.begin("answer", false), { ended } = said;
    said.ended = "stopped"; // as it will be found if the page goes away now
    entry.busy = true;
    this.composer.answering = true;
    this.refresh("The model is answering");
    let due = 0;
    const onMore = ({ text, reasoning, tools }) => {
      onFirst();
      said.content = before + text;
      if (reasoning) said.reasoning_content = reasoning;
      if (tools.length) said.tool_calls = tools;
      entry.say();
      if (performance.now() < due) return;
      due = performance.now() + SOON;
      this.keep(at);
    };
    const answer = await call(body, row, signal, { onMore, onRead: (progress) => entry.read(progress) });
    entry.busy = false;
    const isMore = answer.text || answer.reasoning || answer.tools.length, failed = answer.aborted || answer.error;
    said.ended = failed && !isMore ? ended : answer.aborted ? "stopped" : answer.cut ? "length" : undefined;
    said.error = answer.error?.message;
    said.warnings = [...new Set([...(before ? (said.warnings ?? []) : []), ...answer.warnings])];
    said.tokens = answer.tokens || said.tokens;
    entry.say(true);
    if (at === this.at) this.composer.answering = false;
    this.keep(at);
    return answer;
  }

  /** Asks these intrinsics at once. */
  judgeAll(all) {
    all.forEach((about) => this.judge(about));
  }

  /** Asks an intrinsic about the message that it is for. */
  async judge(about, judged = this.at.judged(about.invoked_after)) {
    const { id } = about;
    const work = async (said, row, signal, show) => {
      const shown = { onMore: ({ text }) => show((card) => card.progress(text)), onRead: (progress) => show((card) => card.reading.show(progress)) };
      const { text, result, error, aborted, warnings } = await call({ ...said, model: id, result: true }, row, signal, shown);
      return { text, result, error: error?.message, stopped: aborted, warnings };
    };
    await this.fill(judged, id, work, () => this.judge(about, judged));
  }

  /** Asks a typed question about what has been said up to a message. */
  async decide(question, judged = this.at.judged()) {
    const work = (said, row, signal) => ask(requestFor(question, this.decider, said), row, signal);
    await this.fill(judged, nameOf(question), work, () => this.decide(question, judged), question);
  }

  /** Fills a card under a message with what `work` finds. */
  async fill(judged, name, work, again, question) {
    const { at, thread, running: { signal } } = this;
    const all = (judged.cards ??= {});
    if (underWay.has(all[name])) return;
    const found = (all[name] = { text: "", stopped: true, question }); // as it will be found if the page goes away now
    underWay.add(found);
    const card = thread.entryOf(judged).card(name, question);
    card.progress("");
    card.root.scrollIntoView({ block: "nearest" });
    const show = (change) => { // on the card that is there by now
      const shown = thread.entryOf(judged)?.cards.get(name);
      if (shown) thread.follow(() => change(shown));
    };
    const row = this.strip.begin(question ? "decide" : name, true);
    await this.documents.read(signal);
    Object.assign(found, { stopped: false }, await work(this.said(at, judged), row, signal, show));
    underWay.delete(found);
    show((shown) => shown.show(found, again));
    this.keep(at);
  }

  /** What was said up to a message, with all that stands before it. */
  said(at, last) {
    const messages = at.upTo(last), { system } = this.settings;
    if (system && !["system", "developer"].includes(messages[0]?.role)) messages.unshift({ role: "system", content: system });
    const documents = at.documents.map(({ title, text }) => ({ title, text }));
    return { messages, ...(documents.length && { documents }), ...(at.tools?.length && { tools: at.tools }) };
  }

  /** A request for an answer to this message. */
  request(at, asked) {
    return { model: this.base, ...this.said(at, asked), ...this.settings.fieldsOfRequest };
  }
}
