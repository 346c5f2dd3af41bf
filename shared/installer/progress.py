"""Prints messages for the user while an environment is set up."""

import sys


def report(sentence: str) -> None:
    """Print a line to standard error without delay, even if standard error is a file."""
    sys.stderr.write(f"mindjobs: {sentence}\n")
    sys.stderr.flush()
