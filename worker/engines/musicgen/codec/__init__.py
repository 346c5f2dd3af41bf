"""EnCodec's parts that are the same for every backend."""
