"""A complete instance on one machine."""
