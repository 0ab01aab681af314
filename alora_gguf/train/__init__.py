"""`alora train`: an activated LoRA on a laptop, the frozen prefix computed once. Needs the extra [train].

settings   what is trained, on what, how
data       lines of a JSONL file: messages and the wanted output
prompts    an example's tokens, the very ones that the runtime computes
packing    examples that share beginnings, packed into rows
decisions  rows of decisions: a state, questions, what is right; decision_prompts, decision_rows, decision_passes: as the above, of these
temperature   what their scores are divided by
base       the frozen model in PyTorch; linear: PEFT's layers in fewer products
prefixes   the keys and values of what the base computes, kept in memory or on disk
passes     rows through the model: loss, and whether the output would be said
heap       what its tensors leave in the memory of the process
trainer    steps and evaluations; checkpoint: where a run stands; progress: what it shows
train      one run, from the file to the folder
folder     PEFT's folder with its io.yaml and card
"""
