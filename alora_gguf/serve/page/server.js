/** The server's HTTP interface: the models, answers as they come, documents. */

import { ofTab } from "./memory.js";

const ON_FULL = "drop-oldest"; // a chat that is longer than the context goes on without its oldest turns

let onLocked = () => {};
let key = ofTab.getItem("alora-key") ?? "";

export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** From now on requests have this API key, as long as the tab is open. */
export function useKey(given) {
  key = /^[ -\xff]*$/.test(given) ? given : ""; // no header can have another
  ofTab.setItem("alora-key", key);
}

/** What is done when the server does not know the key of a request. */
export function whenLocked(act) {
  onLocked = act;
}

/** What the server serves: {id, parent, intrinsic, invoked_after, decides, description} each, the base first, with max_model_len and chat_template. */
export async function models() {
  return (await (await ask("v1/models")).json()).data;
}

/** The chunks of a chat's answer; with `behind`, of what comes behind this beginning of it. Throws ServerError, or AbortError when
 * `signal` ends it. */
export async function* chat({ behind, ...body }, signal) {
  const wanted = { ...body, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true }, return_progress: true };
  const response = await (behind ? goOn(wanted, behind, signal) : post("v1/chat/completions", { ...wanted, on_full: ON_FULL }, signal));
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message);
    for (const choice of chunk.choices) if (choice.text !== undefined) choice.delta = { content: choice.text };
    yield chunk;
  }
  throw new ServerError("The answer broke off: the server ended the connection.");
}

/** A completion of a chat's prompt and the beginning of its answer, in tokens. */
async function goOn({ messages, documents, tools, enable_thinking, reasoning_effort, ...body }, behind, signal) {
  const tokens = async (text) => (await (await post("tokenize", text, signal)).json()).tokens;
  const prompt = await tokens({ model: body.model, messages, documents, tools, enable_thinking, reasoning_effort, on_full: ON_FULL });
  const begun = await tokens({ content: behind, add_special: false, parse_special: false });
  return post("v1/completions", { max_tokens: -1, ...body, prompt: [...prompt, ...begun] }, signal);
}

/** Answers to typed questions. Throws as chat(). */
export async function decide(body, signal) {
  return (await post("v1/decisions", body, signal)).json();
}

/** The text of a file, of a PDF perhaps of some pages, as "3-7": {title, text, kind, ...}. Throws ServerError. */
export async function extract(file, pages) {
  return (await ask(`extract?${new URLSearchParams({ name: file.name, ...(pages && { pages }) })}`, { method: "POST", body: file })).json();
}

/** How many tokens a text has. */
export async function count(text) {
  return (await (await post("tokenize", { content: text, add_special: false })).json()).count;
}

/** The data of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reachable(reader.read());
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  }
}

function post(path, body, signal) {
  return ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await reachable(fetch(path, { ...options, headers }));
  if (response.ok) return response;
  if (response.status === 401) onLocked();
  const said = await response.json().catch(() => null);
  throw new ServerError(said?.error?.message ?? `The server said ${response.status} ${response.statusText}.`, response.status);
}

async function reachable(promise) {
  try {
    return await promise;
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new ServerError("The server cannot be reached; is it still running?");
  }
}
