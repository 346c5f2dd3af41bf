"""ARFF: declarations, quotes, missing values, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.shared.tables.reading_files import column, inspect, label, read, refuse, types

WEATHER = r"""% A comment, of 100 %
@RELATION 'the weather'

@attribute 'out look' {sunny, 'over cast', 'it\'s "rain"'}
@attribute temperature REAL
@Attribute "wind" {TRUE, FALSE}
@attribute note string
@attribute day date "yyyy-MM-dd"
@attribute play {yes, no}

@DATA
sunny, 85, FALSE, 'a, b', 2024-01-01, no
% between the rows
'over cast', ?, TRUE, ?, ?, yes
'it\'s "rain"', 70.5, ?, "-", 2024-01-03, yes
"""


def test_types_and_cells(tmp_path: Path) -> None:
    facts = inspect(tmp_path, WEATHER)
    assert (facts.format, facts.rows, facts.comment_lines, facts.blank_lines) == ("arff", 3, 2, 2)
    assert types(facts) == {
        "out look": "text",
        "temperature": "number",
        "wind": "boolean",
        "note": "text",
        "day": "date",
        "play": "text",
    }
    assert label(facts) == ("play", "classification")
    table = read(tmp_path, WEATHER)
    assert column(table, "out look") == ["sunny", "over cast", 'it\'s "rain"']
    np.testing.assert_array_equal(column(table, "temperature"), [85, np.nan, 70.5])
    assert column(table, "note") == ["a, b", None, "-"]
    assert list(table.lines) == [12, 14, 15]


def test_nominal_digits_stay_text(tmp_path: Path) -> None:
    text = "@relation r\n@attribute a {1,2,3}\n@attribute b integer\n@data\n1,5\n3,6\n"
    assert types(inspect(tmp_path, text)) == {"a": "text", "b": "integer"}


def declare(kind: str, row: str) -> str:
    return f"@relation r\n@attribute a {kind}\n@attribute b real\n@data\n{row}\n"


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        (declare("relational", "1,2"), "arff-type", "Line 2"),
        (declare("string", "{0 x, 1 2}"), "arff-sparse", "Line 5"),
        (declare("string", "x,y"), "bad-cell", "line 5, column 'b'"),
        (declare("string", "x,1,2"), "bad-cell", "line 5 has 3 cells"),
        (declare("string", "x,1e999"), "bad-cell", "'1e999'"),
        (declare("string", ""), "rows-missing", "no rows"),
        ("@relation r\n@attribute a real\nnonsense\n@data\n1\n", "arff-line", "Line 3"),
        ("@relation r\n@attribute a real\n@attribute b real\n", "arff-data-missing", "@data"),
        ("@relation r\n@attribute a real\n@data\n1\n", "one-column", "one column"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, code: str, part: str) -> None:
    error = refuse(tmp_path, text)
    assert error.text.code == code
    assert part in error.detail


def test_header_of_facts_is_accepted_again(tmp_path: Path) -> None:
    assert inspect(tmp_path, WEATHER, header=True, encoding="utf-8").rows == 3
    assert refuse(tmp_path, WEATHER, header=False).text.code == "option-unused"
