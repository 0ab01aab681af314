"""What becomes of messages before they are tokens.

chat_template      a model's template: messages to text as transformers writes them
environment        the sandbox that templates run in
features           what a template can write, found by trying
thinking           the strings around a model's thought
messages           messages as a template takes them
control_tokens     names of control tokens in texts of people, which are text
token_history      texts whose tokens are in the cache
io_yaml            an io.yaml: the request that it makes of a conversation, and the result that it makes of an answer
formatters         what io_yaml does that by: granite-common's formatters, and what has come since
intrinsic_prompt   the tokens of a conversation and of what asks about it, and where the adapter begins
tools              tools that a model may call
decisions          typed questions about a conversation
documents          documents as messages have them
window             which turns of a conversation fit into the context
invocation         where an invocation stands in a prompt
problems           what is odd about an io.yaml on a model's vocabulary
builder            all of it together: messages to tokens, for conversations, server, training and evaluation
"""
