"""Tables that people upload: what is in a file, and the file as columns of numbers and texts.

`facts` and `table` are the interface; they import neither polars nor numpy's readers, so any process may import them.
`reading` parses files. Only a process that may fail should call it, since the files come from anyone.
"""
