"""Results of transformers on PyTorch for small random models; the backends are compared with these results."""
