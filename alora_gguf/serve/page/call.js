import { chat } from "./server.js";

/** One call of the server: {text, reasoning, tools, result, warnings, cut, tokens, aborted, error}; nothing is thrown.
 *
 * row      of the strip: it learns what the call costs as it goes
 * onMore   gets the answer so far
 */
export async function call(body, row, signal, onMore) {
  const began = performance.now();
  const answer = { text: "", reasoning: "", tools: [], result: undefined, warnings: [], cut: false, tokens: 0, aborted: false, error: null };
  let first = null;
  try {
    for await (const chunk of chat(body, signal)) {
      first ??= performance.now() - began;
      const { delta = {}, finish_reason: reason, result } = chunk.choices[0] ?? {};
      answer.text += delta.content ?? "";
      answer.reasoning += delta.reasoning_content ?? "";
      for (const piece of delta.tool_calls ?? []) join(answer.tools, piece);
      if (delta.content || delta.reasoning_content || delta.tool_calls) onMore(answer);
      if (result !== undefined) answer.result = result;
      if (reason) answer.cut = reason === "length";
      answer.warnings.push(...(chunk.warnings ?? []));
      if (!chunk.usage) continue;
      answer.tokens = chunk.usage.total_tokens;
      row.update(chunk.usage, first);
    }
  } catch (e) {
    answer.aborted = e.name === "AbortError";
    answer.error = answer.aborted ? null : e;
  }
  row.end(performance.now() - began, answer);
  return answer;
}

/** A piece of a tool call, to those that there are. */
function join(tools, { index = 0, id, function: { name, arguments: more = "" } = {} }) {
  tools[index] ??= { id: "", type: "function", function: { name: "", arguments: "" } };
  if (id) tools[index].id = id;
  if (name) tools[index].function.name = name;
  tools[index].function.arguments += more;
}
