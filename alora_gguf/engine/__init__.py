"""The engine: one cache that knows adapters, and one loop in which every generation advances.

cache      the tree of branches: which cells there are, and what they are
request    one generation: a prompt, then what is sampled after it
text       tokens to text, up to a stop string, with their log probabilities
loop       the thread that owns the context: admits, fills batches, decodes, samples
pace       how much of the time work in the background may take
channel    from the loop to whoever waits: blocking or asyncio

Every conversation lives in the same cells (kv_unified), because there a fork is a tag and copies
nothing. The price is that a token looks at, and skips, the masked cells of other conversations. The
alternatives cost more: in streams a fork copies a whole stream and needs one for itself, and
contexts of their own cannot share a batch, so that the weights are read once for each. The number
of cells that a token skips is bounded by n_ctx, and what is not used any more is the first to go.
"""
