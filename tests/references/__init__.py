"""Results of transformers on PyTorch for small random models, which the backends are compared with."""
