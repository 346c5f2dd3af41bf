"""The sentences of the toy kind in English."""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {"toy-total-negative": "The total is {total}, but must not be negative."}
TITLES: Final[Mapping[str, str]] = {"negative": "The total is negative"}
