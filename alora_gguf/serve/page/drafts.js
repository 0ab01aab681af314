import { ofBrowser } from "./memory.js";

const PREFIX = "alora-draft-";

/** What is being written in a conversation, or in a message's place, by their ids; kept with each letter: a page that goes away may have no time for the store. */
export const drafts = {
  of: (id) => ofBrowser.getItem(PREFIX + id) ?? "",
  keep: (id, text) => (text.trim() ? ofBrowser.setItem(PREFIX + id, text) : ofBrowser.removeItem(PREFIX + id)),
};
