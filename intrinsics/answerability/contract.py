"""What the data and the evaluation agree on: the prompt and the labels."""

INVOCATION = "<|im_start|>answerability\n"
LABELS = ("answerable", "unanswerable")
