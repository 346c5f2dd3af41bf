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
    values: list[tuple[str, int]] = []
    if column.type is ColumnType.INTEGER and facts.distinct <= MAX_VALUES:
        numbers, counts = np.unique(present, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        values = [(str(int(numbers[index])), int(counts[index])) for index in order.tolist()]
    scale = find_scale(low, high)
    mean, spread = float((present / scale).mean()) * scale, float((present / scale).std()) * scale
    return facts.model_copy(
        update={
            "min": low,
            "max": high,
            "mean": mean,
            "spread": spread if math.isfinite(spread) else None,
            "values": values,
            "bins": _count_bins(present / scale),
        }
    )


def find_scale(low: float, high: float) -> float:
    """Return a power of two by which numbers can be divided exactly, so that no sum of them leaves float64's range."""
    return 2.0 ** max(0, math.frexp(max(abs(low), abs(high)))[1] - 1)


def _count_bins(present: NDArray[np.float64]) -> list[int]:
    if present.min() == present.max():
        return [len(present), *[0] * (BINS - 1)]
    counts: list[int] = np.histogram(present, BINS)[0].tolist()
    return counts
