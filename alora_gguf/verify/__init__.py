"""Whether an adapter computes here what it computes in PEFT."""
