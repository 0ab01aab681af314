"""The base model, as a GGUF or as a Hugging Face folder: shapes, vocabulary, fingerprint."""
