import { Conversation, saidOf, textOf } from "./conversation.js";
import { element } from "./element.js";
import { inPercent } from "./result.js";

const NAMES = { user: "You", assistant: "Model", system: "System", developer: "System", tool: "Tool" };

/** A conversation as Markdown, for people. */
export function asMarkdown(conversation) {
  const lines = [`# ${conversation.name || "Conversation"}`];
  if (conversation.documents.length) lines.push(["Documents:", "", ...conversation.documents.map(({ title }) => `- ${title}`)].join("\n"));
  for (const { role, content, cards = {}, unanswered } of conversation.path) {
    lines.push(`## ${NAMES[role] ?? role}`, textOf(content));
    if (unanswered) lines.push(`*${unanswered}*`);
    for (const [name, { text, result, question, decision }] of Object.entries(cards)) {
      const found = decision ? decision.shares.map(([answer, share]) => `${answer} ${inPercent(share)}`).join(", ") : inLine(result ?? text);
      if (found) lines.push(`> **${question?.asks ?? name}**: ${found}`);
    }
  }
  return `${lines.join("\n\n")}\n`;
}

function inLine(value) {
  if (typeof value === "number" && value >= 0 && value <= 1) return inPercent(value);
  if (Array.isArray(value)) return value.map(inLine).join("; ");
  if (typeof value === "object" && value) return Object.entries(value).map(([name, part]) => `${name.replaceAll("_", " ")} ${inLine(part)}`).join(", ");
  return String(value ?? "nothing").replace(/\s+/g, " ");
}

/** A conversation of a request for /v1/chat/completions. Throws Error. */
export function conversationOf(text, name) {
  let request;
  try {
    request = JSON.parse(text);
  } catch {
    throw new Error(`${name}: expected JSON, got something else; save a conversation as JSON to see its form`);
  }
  const { messages, documents, tools } = Array.isArray(request) ? { messages: request } : (request ?? {});
  const check = (holds, what) => {
    if (!holds) throw new Error(`${name}: expected ${what}, got something else; save a conversation as JSON to see its form`);
  };
  check(isListOf(messages, isMessage) && messages.length, "messages with a role and content each");
  check(isListOf(documents ?? [], ({ text }) => typeof text === "string"), "documents with a text each");
  check(isListOf(tools ?? [], () => true), "a list of tools");
  const conversation = new Conversation({ changed: Date.now(), tools: tools ?? undefined });
  for (const message of messages) conversation.add(saidOf(message));
  for (const { title, text } of documents ?? []) conversation.documents.push({ title: String(title ?? "Document"), text, kind: "text", tokens: null });
  conversation.path.at(-1).given = true;
  return conversation;
}

function isMessage({ role, content, tool_calls: calls, reasoning_content: thought }) {
  const isText = (value) => (value ?? null) === null || typeof value === "string";
  if (typeof role !== "string" || !isText(thought) || !isListOf(calls ?? [], isCall)) return false;
  return typeof content === "string" || isListOf(content, ({ text }) => isText(text)) || (isText(content) && Boolean(calls));
}

function isCall({ function: called }) {
  return typeof called?.name === "string";
}

/** Whether it is a list of objects of which each is such a one. */
function isListOf(values, isOne) {
  return Array.isArray(values) && values.every((value) => typeof value === "object" && value !== null && isOne(value));
}

/** Lets the browser save a file. */
export function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A file name of a conversation's. */
export function fileName(conversation, ending) {
  return `${(conversation.name || "conversation").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "conversation"}.${ending}`;
}
