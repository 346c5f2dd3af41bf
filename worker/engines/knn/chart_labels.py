"""Names of classes, columns and data sets as labels of charts: longer names are shortened."""

from typing import Final

MAX_NAME_LENGTH: Final = 36
MAX_CLASS_NAME_LENGTH: Final = 14
LETTER_INCHES: Final = 0.085
"""The approximate width of a letter: enough to reserve space for names without measuring them."""


def shorten(name: str, max_length: int = MAX_NAME_LENGTH) -> str:
    """Make a user's name fit a chart and XML: replace control characters, and remove the middle of a long name."""
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    if len(printable) <= max_length:
        return printable
    tail = (max_length - 1) // 2
    return f"{printable[: max_length - 1 - tail]}…{printable[-tail:]}"
