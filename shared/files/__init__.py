"""The file store: a protocol, the keys of the files, and one module for each type of store."""
