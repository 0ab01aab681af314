"""`alora eval`: how good intrinsics are, through the GGUF runtime, beside the base prompted and an ordinary LoRA.

plan       what is measured, from a TOML file
ways       how an example is asked: the base prompted, the LoRA, the aLoRA
metrics    accuracy, AUROC, calibration, and their intervals
evaluate   the measuring, its rows in row; decisions: of rows of decisions; peft_model: the reference
report     tables and a plot; page: docs/intrinsics.md of them
"""
