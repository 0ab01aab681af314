export const STOPPED = "Stopped before an answer came.";

const SAID = ["role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name"]; // of a message, as the server takes it

/** What has been said, and what was said instead: a tree of messages, of which one path is shown. Plain data, as the store keeps it.
 *
 * messages   {id, before, role, content, ...}: `before` is the id of the one that it follows. Beside what the server takes they have
 *            cards {name: {text, result, ...}}, tokens (of the prompt and the answer), warnings, ended ("length", "stopped") and
 *            unanswered: why a question has no answer and is not part of what is said, or given: it came in a file, and nobody has
 *            asked for an answer
 * gone       ids of messages that were taken out
 * last       the id of the last one that is shown
 * documents  {title, text, kind, pages, note, tokens}; calls: what the strip shows
 */
export class Conversation {
  constructor(kept = {}) {
    Object.assign(this, { id: newId(), title: "", changed: 0, messages: [], gone: [], last: null, documents: [], tools: undefined, calls: [] }, kept);
  }

  /** As it was kept. What was under way when the page went away has stopped. */
  static opened(kept) {
    const conversation = new Conversation(kept), last = conversation.path.at(-1);
    if (last?.role === "user" && !last.given && !last.unanswered) conversation.leave(last, STOPPED);
    return conversation;
  }

  get path() {
    const byId = new Map(this.messages.map((message) => [message.id, message])), path = [];
    for (let message = byId.get(this.last); message; message = byId.get(message.before)) path.unshift(message);
    return path;
  }

  get isEmpty() {
    return !this.messages.length && !this.documents.length && !this.title;
  }

  get name() {
    return this.title || shortened(textOf(this.messages.find(({ role }) => role === "user")?.content ?? this.documents[0]?.title));
  }

  /** Behind the last one that is shown. */
  add(message) {
    this.messages.push(Object.assign(message, { id: newId(), before: this.last }));
    this.last = message.id;
    this.changed = Date.now();
    return message;
  }

  /** Takes out one that is no part of what is said; what followed it follows the one before. */
  remove(message) {
    this.messages = this.messages.filter((other) => other !== message);
    this.gone.push(message.id);
    for (const other of this.messages) if (other.before === message.id) other.before = message.before;
    if (this.last === message.id) this.last = message.before;
  }

  /** No answer to this one came, and why: what was answered before is shown again, if there is something. */
  leave(asked, why) {
    const older = this.messages.findLast(({ before }) => before === asked.id);
    if (older) this.show(Object.assign(older, { error: why }));
    else asked[asked.role === "user" ? "unanswered" : "error"] = why;
  }

  /** All that stand in its place: itself, and what was said instead. */
  versions(message) {
    return this.messages.filter(({ before }) => before === message.before);
  }

  /** Shows the path through this message, to the newest end of it. */
  show(message) {
    let next = message;
    while (next) {
      this.last = next.id;
      next = this.messages.findLast(({ before }) => before === this.last);
    }
  }

  /** The message that an intrinsic judges: the last one of its role, or of any; undefined if there is none. */
  judged(role) {
    return this.path.findLast((message) => !message.unanswered && (!role || message.role === role));
  }

  /** The messages up to this one, for a request. */
  upTo(last) {
    const path = this.path, said = path.slice(0, path.indexOf(last) + 1).filter((message) => message === last || !message.unanswered);
    return said.map((message) => Object.fromEntries(SAID.filter((name) => message[name] !== undefined).map((name) => [name, message[name]])));
  }

  /** Tokens of the conversation, as the last answer says. */
  get tokens() {
    return this.path.findLast(({ tokens }) => tokens)?.tokens ?? 0;
  }
}

/** What is to be kept of a conversation, of which somebody else keeps `other`, or nothing: all messages of both, and of an answer the longer. */
export function joined(ours, other) {
  const messages = new Map(ours.messages.map((message) => [message.id, message]));
  for (const message of other?.messages ?? []) {
    const known = messages.get(message.id), isNew = !known && !ours.gone.includes(message.id);
    if (isNew || (known && textOf(message.content).length > textOf(known.content).length)) messages.set(message.id, message);
  }
  return { ...ours, messages: [...messages.values()] };
}

/** Of a message that came from elsewhere what the server takes, without what is null there. */
export function saidOf(message) {
  return { content: null, ...Object.fromEntries(SAID.filter((name) => (message[name] ?? null) !== null).map((name) => [name, message[name]])) };
}

/** Content as text: OpenAI's may be parts. */
export function textOf(content) {
  return Array.isArray(content) ? content.map(({ text = "" }) => text).join("") : (content ?? "");
}

export function shortened(text, most = 60) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > most ? `${line.slice(0, most - 1).trimEnd()}…` : line;
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
