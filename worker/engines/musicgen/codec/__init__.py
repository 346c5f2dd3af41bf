"""The parts of EnCodec that are the same for every backend."""
