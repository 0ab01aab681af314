"""The engine of one open model: one cache that knows adapters, and one loop in which every generation advances.

engine       what all conversations of a model share
adapter      a file with a name; adapters: all of them, within a budget of bytes
cache        the tree of branches: which cells there are, and what they are
request      one generation: a prompt, then what is sampled after it
loop         the thread that owns the context: admits, fills batches, decodes, samples
pace         how much of the time work in the background may take
thought      what is thought and what is answered; detokenizer: tokens to text, up to a stop string
channel      from the loop to whoever waits: blocking or asyncio
call         what somebody waits for: its requests, from before they are made, and how they are ended from outside
stream       a call's chunks as they come
forward      PEFT's forward; embedding: vectors of models that pool; state: cells as bytes, and back

Every conversation lives in the same cells (kv_unified): there a fork is a tag and copies nothing. The price is that a
token has to look at the masked cells of other conversations, and skip them, sixty-four at a time. The alternatives cost
more: in streams every branch has to have a stream, and a fork copies one whole; contexts of their own cannot share a
batch, so that the weights are read once for each (docs/benchmarks.md).
"""
