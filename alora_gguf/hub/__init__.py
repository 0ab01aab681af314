"""Names to files: what is on the Hugging Face hub, fetched; adapters of other forms, made into GGUF on the way; both kept.

names        what a user calls an adapter
hf_name      names on the hub
repository   one repository there, and its files here
bases        which files of a repository are a base model
fit          which base an adapter of a library is for
intrinsics   which folder of a repository is the adapter for a base
library      all adapters of a repository or a folder for a base
signature    what model.sig says of an adapter's files
converted    PEFT folders made into GGUF
unchanged    what was computed of files, until they change
pull, here   fetching ahead; what is here, and removing it
folders      where this package keeps files
"""
