"""The English sentences of tables; see `shared.texts`."""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    # Why a column is left out.
    "row-numbers": "{column!r} is left out: it only numbers the rows.",
    "unnamed": "{column!r} is left out: it names the rows, each differently.",
    "nearly-unique-text": "{column!r} is left out: its text differs in over 95 % of the rows.",
    "constant": "{column!r} is left out: all its cells are equal.",
    "empty": "{column!r} is left out: all its cells are missing.",
}
"""The sentences, keyed by code."""

TITLES: Final[Mapping[str, str]] = {
    "table-unreadable": "The table cannot be read",
}
"""The titles of errors, keyed by the type of error."""
