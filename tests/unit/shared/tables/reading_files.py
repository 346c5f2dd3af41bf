"""Reads tables that a test writes."""

from pathlib import Path
from typing import Any, Final

import pytest

from shared.tables.errors import TableError
from shared.tables.facts import Limits, ReadOptions, TableFacts
from shared.tables.reading import inspect_table, read_table
from shared.tables.table import Table

LIMITS: Final = Limits(rows=200_000, columns=2_000, bytes=2**26)


def write(folder: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path = folder / "table"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def inspect(folder: Path, content: str | bytes, limits: Limits = LIMITS, **options: Any) -> TableFacts:
    return inspect_table(write(folder, content), ReadOptions(**options), limits)


def read(folder: Path, content: str | bytes, limits: Limits = LIMITS, **options: Any) -> Table:
    return read_table(write(folder, content), ReadOptions(**options), limits)


def refuse(folder: Path, content: str | bytes, limits: Limits = LIMITS, **options: Any) -> TableError:
    """Return the error with which a table is refused, for reading and inspecting alike."""
    with pytest.raises(TableError) as raised:
        inspect(folder, content, limits, **options)
    with pytest.raises(TableError) as again:
        read(folder, content, limits, **options)
    assert raised.value.text == again.value.text
    return raised.value


def column(table: Table, name: str) -> list[Any]:
    """Return the cells of a column of numbers or texts."""
    (found,) = (column for column in table.columns if column.name == name)
    return list(found.texts) if found.texts is not None else list(found.numbers if found.numbers is not None else [])


def types(facts: TableFacts) -> dict[str, str]:
    return {column.name: str(column.type) for column in facts.columns}


def excluded(facts: TableFacts) -> dict[str, str]:
    return {exclusion.column: str(exclusion.reason) for exclusion in facts.suggested.exclude}


def label(facts: TableFacts) -> tuple[str | None, str | None]:
    """Return the name of the suggested label, and the suggested task."""
    index = facts.suggested.label
    return None if index is None else facts.columns[index].name, facts.suggested.task


def codes(facts: TableFacts) -> list[str]:
    return [warning.code for warning in facts.warnings]
