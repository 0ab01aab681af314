const PREFIX = "alora-draft-";

/** What is being written in a conversation, kept with each letter: a page that goes away may have no time for the store. */
export const drafts = {
  of: (id) => localStorage.getItem(PREFIX + id) ?? "",
  keep: (id, text) => (text.trim() ? localStorage.setItem(PREFIX + id, text) : localStorage.removeItem(PREFIX + id)),
};
