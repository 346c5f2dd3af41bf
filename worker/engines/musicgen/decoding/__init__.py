"""The decode loop in NumPy, independent of the backend that computes the model."""
