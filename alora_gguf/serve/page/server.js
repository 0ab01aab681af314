/** The server's HTTP interface: the models, and answers as they come. */

let key = sessionStorage.getItem("alora-key") ?? "";

export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** From now on requests have this API key, as long as the tab is open. */
export function useKey(given) {
  key = given;
  sessionStorage.setItem("alora-key", key);
}

/** What the server serves: {id, parent, intrinsic, invoked_after, description} each, the base first. */
export async function models() {
  return (await (await ask("v1/models")).json()).data;
}

/** The chunks of a chat's answer. Throws ServerError, or AbortError when `signal` ends it. */
export async function* chat(body, signal) {
  const wanted = { stream: true, stream_options: { include_usage: true, continuous_usage_stats: true }, ...body };
  const response = await ask("v1/chat/completions", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wanted), signal,
  });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message);
    yield chunk;
  }
  throw new ServerError("The answer broke off: the server ended the connection.");
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

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await reachable(fetch(path, { ...options, headers }));
  if (response.ok) return response;
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
