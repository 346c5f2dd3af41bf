"""The decode loop, in NumPy, independent of what computes."""
