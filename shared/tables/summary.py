"""What is in a column: counts, examples, and the distribution of its values."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.tables.bad_cells import show
from shared.tables.columns import TypedColumn
from shared.tables.facts import BINS, MAX_EXAMPLES, MAX_VALUES, ColumnFacts, ColumnType

_WORDS: Final = frozenset({ColumnType.TEXT, ColumnType.BOOLEAN})


def summarise(column: TypedColumn) -> ColumnFacts:
    """Find out what is in a column."""
    present = column.cells.drop_nulls()
    examples = [show(cell) for cell in present.head(10_000).unique(maintain_order=True).head(MAX_EXAMPLES)]
    if column.type in _WORDS:
        counted = present.value_counts(name="count").sort(["count", present.name], descending=[True, False])
        values = [(show(word), count) for word, count in counted.head(MAX_VALUES).rows()]
        distinct = len(counted) if column.type is ColumnType.TEXT else len(np.unique(column.present()))
        return ColumnFacts(
            name=column.name,
            type=column.type,
            distinct=distinct,
            missing=column.cells.null_count(),
            examples=examples,
            values=values,
        )
    return _summarise_numbers(column, examples)


def _summarise_numbers(column: TypedColumn, examples: list[str]) -> ColumnFacts:
    present = column.present()
    facts = ColumnFacts(
        name=column.name,
        type=column.type,
        distinct=len(np.unique(present)),
        missing=len(column.cells) - len(present),
        examples=examples,
    )
    if not len(present):
        return facts
    low, high = float(present.min()), float(present.max())
    scale = max(abs(low), abs(high), 1.0)  # the mean of numbers near the end of the range must not overflow
    mean, spread = float((present / scale).mean()) * scale, float((present / scale).std()) * scale
    return facts.model_copy(
        update={
            "min": low,
            "max": high,
            "mean": mean,
            "spread": spread if math.isfinite(spread) else None,
            "bins": _count_bins(present / scale),
        }
    )


def _count_bins(present: NDArray[np.float64]) -> list[int]:
    low, high = present.min(), present.max()
    if low == high:
        return [len(present), *[0] * (BINS - 1)]
    places = ((present - low) / (high - low) * BINS).astype(np.int64)
    return [int(count) for count in np.bincount(np.minimum(places, BINS - 1), minlength=BINS)]
