/** What has been said, as the server is told it. */
export class Conversation {
  /** {role, content} each, and whatever else the page keeps with them. */
  messages = [];

  add(message) {
    this.messages.push(message);
  }

  /** The message that an intrinsic judges: the last one of its role, or of any; undefined if there is none. */
  judged(role) {
    return this.messages.findLast((message) => !role || message.role === role);
  }

  /** The messages up to this one, for a request. */
  upTo(last) {
    return this.messages.slice(0, this.messages.indexOf(last) + 1).map(({ role, content }) => ({ role, content }));
  }
}
