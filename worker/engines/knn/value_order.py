"""The order of the values of a column, and the names of classes; the same in every process."""

from collections.abc import Iterable
from math import isfinite
from typing import Final

import numpy as np

from shared.tables.facts import ColumnType

SECONDS_PER_DAY: Final = 86_400
MAX_EXACT: Final = 2.0**53


def sort_texts(texts: Iterable[str]) -> list[str]:
    """Sort texts: first those that are finite numbers, by number, so that 10 comes after 9; then the others."""
    return sorted(texts, key=_rank)


def name_number(number: float, column_type: ColumnType) -> str:
    """Return a number, or a date in days since 1970-01-01, as text."""
    if column_type is ColumnType.DATE:
        if number.is_integer():
            return str(np.datetime64(int(number), "D"))
        return str(np.datetime64(round(number * SECONDS_PER_DAY), "s"))
    return str(int(number)) if number.is_integer() and abs(number) < MAX_EXACT else repr(number)


def _rank(text: str) -> tuple[bool, float, str]:
    """Return what the order compares. Numbers equal in value, such as 1 and 1.0, are in the order of their texts."""
    try:
        number = float(text)
    except ValueError:
        return True, 0.0, text
    return (False, number, text) if isfinite(number) else (True, 0.0, text)
