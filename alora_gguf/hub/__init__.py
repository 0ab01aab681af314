"""Names to files: adapters of other forms, made into GGUF on the way and kept."""
