import { Conversation } from "./conversation.js";
import { element } from "./element.js";
import { textOf } from "./entry.js";
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
      lines.push(`> **${question?.asks ?? name}**: ${found}`);
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
  const messages = Array.isArray(request) ? request : request?.messages;
  if (!Array.isArray(messages) || !messages.length || !messages.every(isMessage)) {
    throw new Error(`${name}: expected messages with a role and content each, got something else; save a conversation as JSON to see its form`);
  }
  const conversation = new Conversation({ changed: Date.now(), tools: request.tools });
  for (const message of messages) conversation.add({ ...message });
  for (const { title = "Document", text: said } of request.documents ?? []) conversation.documents.push({ title: String(title), text: String(said), kind: "text", tokens: null });
  return conversation;
}

function isMessage(message) {
  const { role, content, tool_calls: calls } = message ?? {};
  return typeof role === "string" && (typeof content === "string" || Array.isArray(content) || Array.isArray(calls));
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
