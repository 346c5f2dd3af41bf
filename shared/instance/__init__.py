"""Runs a complete instance on one machine."""
