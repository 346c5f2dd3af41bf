"""Missing cells: the words that programs write for a value that is not there."""

from typing import Final

import polars as pl

_WORDS: Final = (
    *("", "NA", "N/A", "n/a", "#NA", "<NA>", "na", "NaN", "nan", "NAN", "Nan", "-nan", "-NaN", "NaT"),
    *("null", "NULL", "Null", "None", "NONE", "?", "-", "--", "."),
    # Excel's errors, which a cell has in place of a value.
    *("#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!"),
)
_WORDS_WITHOUT_MINUS: Final = tuple(word for word in _WORDS if word != "-")
MISSING: Final = frozenset(_WORDS)
"""The cells that are missing. ``none`` is not one of them: as a word of a language it is an answer."""


def remove_missing(cells: pl.DataFrame) -> pl.DataFrame:
    """Remove the blanks around cells of text, and make missing cells null.

    A minus is a value in a column that also has a plus, such as the result of a test. All columns are treated in one
    expression, since each call takes a fraction of a millisecond, and a table can have thousands of columns.
    """
    stripped = cells.select(pl.all().str.strip_chars())
    has_plus = stripped.select((pl.all() == "+").any()).row(0)
    return stripped.select(
        [
            pl.when(pl.col(name).is_in(_WORDS_WITHOUT_MINUS if plus else _WORDS))
            .then(None)
            .otherwise(pl.col(name))
            .alias(name)
            for name, plus in zip(stripped.columns, has_plus, strict=True)
        ]
    )
