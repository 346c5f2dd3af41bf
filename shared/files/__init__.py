"""The file store: a protocol, its keys, and one module for each kind of store."""
