"""The C library: a context, a vocabulary, samplers, devices. No policy."""
