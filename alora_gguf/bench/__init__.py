"""`alora bench`: this engine beside its neighbours, on the same models, adapters and tokens, in one run."""
