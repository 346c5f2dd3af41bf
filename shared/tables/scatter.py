"""Some of the rows as points: what a scatter plot of the table shows before a job exists."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.tables.bad_cells import show
from shared.tables.columns import TypedColumn
from shared.tables.facts import PLACES, ColumnFacts, Scatter, Suggestion
from shared.tables.summary import find_scale

_MAX_POINTS: Final = 300
_MAX_COLUMNS: Final = 5
_MAX_CLASSES: Final = 8
_MAX_CLASS_CHARS: Final = 40


def make_scatter(columns: Sequence[TypedColumn], facts: Sequence[ColumnFacts], suggested: Suggestion) -> Scatter | None:
    """Choose columns and rows to draw; None without two columns of numbers that are not left out."""
    out = {exclusion.index for exclusion in suggested.exclude} | {suggested.label}
    drawn = [index for index, found in enumerate(facts) if index not in out and found.bins and found.distinct > 1]
    drawn = drawn[:_MAX_COLUMNS]
    if len(drawn) < 2:  # noqa: PLR2004 - a plot has two axes
        return None
    count = len(columns[0].cells)
    rows = np.unique(np.linspace(0, count - 1, min(count, _MAX_POINTS)).astype(np.int64))
    classes, groups = _find_groups(columns, facts, suggested.label, rows)
    places = [_place(columns[index], facts[index], rows) for index in drawn]
    return Scatter(columns=drawn, places=places, classes=classes, groups=groups)


def _place(column: TypedColumn, facts: ColumnFacts, rows: NDArray[np.int64]) -> list[int | None]:
    if column.numbers is None or facts.min is None or facts.max is None:
        raise ValueError(f"the column {column.name!r} has no numbers")
    scale = find_scale(facts.min, facts.max)
    low, high = facts.min / scale, facts.max / scale
    places = np.rint((column.numbers[rows] / scale - low) / (high - low) * PLACES)
    return [None if np.isnan(place) else int(place) for place in places.tolist()]


def _find_groups(
    columns: Sequence[TypedColumn], facts: Sequence[ColumnFacts], label: int | None, rows: NDArray[np.int64]
) -> tuple[list[str], list[int | None]]:
    """Return the classes by which points are coloured, and the index of each point's class; no classes if many."""
    if label is None or facts[label].distinct > _MAX_CLASSES:
        return [], []
    cells = columns[label].cells[rows].to_list()
    classes = sorted({cell for cell in cells if cell is not None})[:_MAX_CLASSES]
    index = {name: position for position, name in enumerate(classes)}
    return [show(name)[:_MAX_CLASS_CHARS] for name in classes], [index.get(cell) for cell in cells]
