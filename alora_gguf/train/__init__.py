"""`alora train`: an activated LoRA on a laptop, the frozen prefix computed once. Needs the extra [train].

    settings   what is trained, on what, how
    data       lines of a JSONL file: messages and the wanted output
    prompts    an example's tokens, the very ones that the runtime computes
    forest     examples that share beginnings, packed into rows without padding
    prefixes   the keys and values of what the base computes, kept in memory or on disk
    passes     a row through the model: loss, and whether the output would be said
    trainer    steps, evaluation, checkpoints
    folder     PEFT's folder with its io.yaml and card
"""
