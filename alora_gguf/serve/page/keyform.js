import { byId } from "./element.js";
import { ServerError, useKey } from "./server.js";

/** Does what `work` does, and asks for an API key as long as the server refuses without one. */
export async function withKey(work) {
  const form = byId("key"), input = byId("key-input"), error = byId("key-error");
  for (;;) {
    try {
      const done = await work();
      form.hidden = true;
      return done;
    } catch (e) {
      if (!(e instanceof ServerError) || e.status !== 401) throw e;
      error.hidden = form.hidden; // the first time nobody has given one
      error.textContent = "The server does not know this key.";
      form.hidden = false;
      input.focus();
    }
    await new Promise((given) => {
      form.onsubmit = (event) => {
        event.preventDefault();
        useKey(input.value);
        given();
      };
    });
  }
}
