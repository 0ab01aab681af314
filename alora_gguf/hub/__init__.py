"""Names to files: what is on the Hugging Face hub, fetched; adapters of other forms, made into GGUF on the way; both kept.

names        what a user calls an adapter
hf_name      names on the hub
repository   one repository there, and its files here
bases        which files of a repository are a base model
intrinsics   which folder of a repository is the adapter for a base
converted    PEFT folders made into GGUF
pull, here   fetching ahead; what is here, and removing it
folders      where this package keeps files
"""
