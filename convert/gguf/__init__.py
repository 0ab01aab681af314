"""Adapter GGUF files: planned, written, read."""
