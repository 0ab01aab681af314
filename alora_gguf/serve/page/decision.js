import { textOf } from "./conversation.js";

/** A typed question in a line that somebody types: a statement, or `Which? this | that`. It is {asks, options}; without options it is whether
 * it is so. */
export function questionIn(line) {
  if (!line.includes("|")) return { asks: line };
  const mark = line.indexOf("?"), at = mark < line.lastIndexOf("|") ? mark : -1, options = line.slice(at + 1).split("|").map((option) => option.trim());
  return { asks: at < 0 ? "Which is it?" : line.slice(0, at + 1), options };
}

/** What its card is kept by. No adapter has such a name. */
export function nameOf({ asks, options = [] }) {
  return `/decide ${[asks, options.join(" | ")].filter(Boolean).join(" ")}`;
}

/** A request for /v1/decisions; said: {messages, documents}, as a chat's has them. */
export function requestFor({ asks, options }, model, { messages, documents }) {
  const question = options ? { type: "choice", instructions: asks, choices: options.map((value) => ({ value })) } : { type: "predicate", instructions: asks };
  return { model, input: messages.flatMap(itemsOf), ...(documents && { documents }), questions: [question], on_full: "drop-oldest" };
}

/** {shares: [[what, how likely]], chosen} of an answer of /v1/decisions. */
export function decisionOf({ probability: yes, probabilities, choice }) {
  if (!probabilities) return { shares: [["yes", yes], ["no", 1 - yes]], chosen: yes < 0.5 ? "no" : "yes" };
  return { shares: probabilities.map(({ value, probability }) => [value, probability]), chosen: choice };
}

/** A message as OpenAI's items. */
function itemsOf({ role, content, tool_calls: calls = [], tool_call_id: id }) {
  if (role === "tool") return [{ type: "function_call_output", call_id: id, output: textOf(content) }];
  const made = calls.map(({ id: call_id, function: { name, arguments: given } }) =>
    ({ type: "function_call", call_id, name, arguments: typeof given === "string" ? given : JSON.stringify(given) }));
  return [...(content || !made.length ? [{ role, content: textOf(content) }] : []), ...made];
}
