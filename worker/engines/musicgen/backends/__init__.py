"""What computes the model: one folder per backend."""
