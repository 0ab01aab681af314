"""What PEFT wrote: its config, its tensors, and the methods around it, as updates of modules."""
