import { chat } from "./server.js";

/**
 * One call of the server: {text, result, aborted, error}; nothing is thrown.
 *
 * row     of the strip: it learns what the call costs as it goes
 * onText  gets all text so far
 */
export async function call(body, row, signal, onText) {
  const began = performance.now();
  const answer = { text: "", result: undefined, aborted: false, error: null };
  let first = null;
  try {
    for await (const chunk of chat(body, signal)) {
      first ??= performance.now() - began;
      const choice = chunk.choices[0];
      if (choice?.delta?.content) onText((answer.text += choice.delta.content));
      if (choice?.result !== undefined) answer.result = choice.result;
      if (chunk.usage) row.update(chunk.usage, first);
    }
  } catch (e) {
    answer.aborted = e.name === "AbortError";
    answer.error = answer.aborted ? null : e;
  }
  row.end(performance.now() - began, answer);
  return answer;
}
