"""Parquet files: types, missing values, nested columns and damage."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.unit.shared.tables.reading_files import LIMITS, column, inspect, read, refuse, types


def pack(frame: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def test_types_of_columns(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", None, "NA"],
            "digits": ["1", "2", "3"],
            "enum": pl.Series(["u", "v", "u"], dtype=pl.Enum(["u", "v"])),
            "words": ["TRUE", "FALSE", "TRUE"],
            "flag": [True, None, False],
            "whole": [1, 2, None],
            "float": [0.5, float("nan"), 2.0],
            "decimal": [Decimal("1.25"), Decimal(2), None],
            "day": [date(1970, 1, 2), None, date(1970, 1, 3)],
            "time": [datetime(1970, 1, 1, 12, tzinfo=UTC), None, datetime(1970, 1, 2, tzinfo=UTC)],
            "nothing": [None, None, None],
        }
    )
    facts = inspect(tmp_path, pack(frame))
    assert (facts.format, facts.rows, facts.header) == ("parquet", 3, True)
    assert types(facts) == {
        "text": "text",
        "digits": "text",
        "enum": "text",
        "words": "boolean",
        "flag": "boolean",
        "whole": "integer",
        "float": "number",
        "decimal": "number",
        "day": "date",
        "time": "date",
        "nothing": "empty",
    }
    table = read(tmp_path, pack(frame))
    assert column(table, "text") == ["a", None, None]
    np.testing.assert_array_equal(column(table, "flag"), [1, np.nan, 0])
    np.testing.assert_array_equal(column(table, "float"), [0.5, np.nan, 2])
    np.testing.assert_array_equal(column(table, "day"), [1, np.nan, 2])
    np.testing.assert_array_equal(column(table, "time"), [0.5, np.nan, 1])
    assert table.columns[3].words == ("FALSE", "TRUE")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (pl.DataFrame({"y": ["a"], "parts": [[1, 2]]}), "parquet-nested"),
        (pl.DataFrame({"y": ["a"], "parts": [{"a": 1}]}), "parquet-nested"),
        (pl.DataFrame({"y": ["a"], "parts": [b"bytes"]}), "parquet-type"),
        (pl.DataFrame({"y": ["a"]}), "one-column"),
        (pl.DataFrame({"y": [], "x": []}), "rows-missing"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, frame: pl.DataFrame, code: str) -> None:
    error = refuse(tmp_path, pack(frame))
    assert error.text.code == code
    assert error.text.values.get("column", "parts") == "parts"


def test_infinite_numbers_are_bad_cells(tmp_path: Path) -> None:
    error = refuse(tmp_path, pack(pl.DataFrame({"y": [1, 2, 3], "x": [1.0, float("inf"), 2.0]})))
    assert "line 2, column 'x'" in error.detail


def test_rows_are_counted_before_they_are_read(tmp_path: Path) -> None:
    content = pack(pl.DataFrame({"y": np.zeros(LIMITS.rows + 1, np.int8), "x": np.zeros(LIMITS.rows + 1, np.int8)}))
    assert len(content) < 2**14
    assert refuse(tmp_path, content).text.code == "rows-too-many"


def test_damage_ends_in_a_sentence(tmp_path: Path) -> None:
    content = pack(pl.DataFrame({"y": ["a", "b"], "x": [1, 2]}))
    assert refuse(tmp_path, content[:-20]).text.code == "parquet-damaged"
    assert refuse(tmp_path, b"PAR1" + bytes(100) + b"PAR1").text.code == "parquet-damaged"
