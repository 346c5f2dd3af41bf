"""What the user reads while an environment is set up."""

import sys


def report(sentence: str) -> None:
    """Print a line at once, on a terminal and into a file alike."""
    sys.stderr.write(f"mindjobs: {sentence}\n")
    sys.stderr.flush()
