"""The engine: one cache that knows adapters, and one loop in which every generation advances.

cache      the tree of branches: which cells there are, and what they are
request    one generation: a prompt, then what is sampled after it
call       a call under way, from before its requests are made until it has a result
chunk      what comes of it: text, and how likely its tokens were
thought    what is thought and what is answered
text       tokens to text, up to a stop string, with their log probabilities
loop       the thread that owns the context: admits, fills batches, decodes, samples
pace       how much of the time work in the background may take
channel    from the loop to whoever waits: blocking or asyncio
call       what somebody waits for: its requests, from before they are made, and how they are ended from outside

Every conversation lives in the same cells (kv_unified): there a fork is a tag and copies nothing. The
price is that a token has to look at the masked cells of other conversations, and skip them. Measured
on one core, 135M Q4_1, 8 conversations of 1,024 tokens: a batch of one token each 109 ms, in streams
91 ms; one of them alone 19 ms against 16 ms. The alternatives cost more: in streams every branch has
to have a stream, and a fork copies one whole; contexts of their own cannot share a batch, so that the
weights are read once for each.
Most of the price was the walk over the mask in ggml's flash attention, which now passes by sixty-four
masked cells at a time.
"""
