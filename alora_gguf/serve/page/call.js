import { decisionOf } from "./decision.js";
import { chat, decide } from "./server.js";

/** One call of the server: {text, reasoning, tools, result, warnings, cut, tokens, aborted, error}; nothing is thrown.
 *
 * row      of the strip: it learns what the call costs as it goes
 * onMore   gets the answer so far; onRead: before there is one, how much of a long prompt is read
 */
export async function call(body, row, signal, { onMore, onRead }) {
  const began = performance.now();
  const answer = { text: "", reasoning: "", tools: [], result: undefined, warnings: [], cut: false, tokens: 0, aborted: false, error: null };
  let first = null;
  try {
    for await (const chunk of chat(body, signal)) {
      const { delta = {}, finish_reason: reason, result } = chunk.choices[0] ?? {};
      answer.text += delta.content ?? "";
      answer.reasoning += delta.reasoning_content ?? "";
      for (const piece of delta.tool_calls ?? []) join(answer.tools, piece);
      const isMore = delta.content || delta.reasoning_content || delta.tool_calls;
      if (isMore || reason) first ??= performance.now() - began;
      if (chunk.prompt_progress) onRead(chunk.prompt_progress);
      if (isMore) onMore(answer);
      if (result !== undefined) answer.result = result;
      if (reason) answer.cut = reason === "length";
      answer.warnings.push(...(chunk.warnings ?? []));
      if (!chunk.usage) continue;
      answer.tokens = chunk.usage.total_tokens;
      row.update(chunk.usage, first ?? performance.now() - began);
    }
  } catch (e) {
    answer.aborted = e.name === "AbortError";
    answer.error = answer.aborted ? null : e;
  }
  row.end(performance.now() - began, answer);
  return answer;
}

/** One typed question: {decision, warnings, stopped, error}; nothing is thrown. */
export async function ask(body, row, signal) {
  const began = performance.now(), found = { stopped: false };
  try {
    const { answers: [answer], usage, warnings } = await decide(body, signal);
    Object.assign(found, { decision: decisionOf(answer), warnings });
    const { input_tokens: prompt_tokens, input_tokens_details: prompt_tokens_details, output_tokens: completion_tokens } = usage;
    row.update({ prompt_tokens, prompt_tokens_details, completion_tokens });
  } catch (e) {
    found.stopped = e.name === "AbortError";
    found.error = found.stopped ? undefined : e.message;
  }
  row.end(performance.now() - began, { aborted: found.stopped, error: found.error });
  return found;
}

/** A piece of a tool call, to those that there are. */
function join(tools, { index = 0, id, function: { name, arguments: more = "" } = {} }) {
  tools[index] ??= { id: "", type: "function", function: { name: "", arguments: "" } };
  if (id) tools[index].id = id;
  if (name) tools[index].function.name = name;
  tools[index].function.arguments += more;
}
