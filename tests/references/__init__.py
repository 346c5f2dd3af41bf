"""What transformers on PyTorch makes of small random models, for the engines to be compared with."""
