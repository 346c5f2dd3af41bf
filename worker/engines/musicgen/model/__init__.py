"""A MusicGen model's files: configuration, tensors, weights, download."""
