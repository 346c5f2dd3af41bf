"""Excel workbooks: sheets, types, stored values of formulas, macros, passwords, and workbooks that lie."""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import openpyxl
import pytest

from tests.unit.shared.tables.reading_files import LIMITS, column, inspect, label, read, refuse, types

ROWS: Final[list[list[Any]]] = [
    ["species", "mass", "seen", "day"],
    *(["ab"[n % 2], n / 4, n % 3 == 0, date(2024, 1, 1 + n)] for n in range(9)),
]


def make_workbook(*sheets: tuple[str, Sequence[Sequence[Any]]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def repack(content: bytes, change: Callable[[str, bytes], bytes], *, extra: dict[str, bytes] | None = None) -> bytes:
    """Change the parts of a workbook."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, part in (extra or {}).items():
            new.writestr(name, part)
    return file.getvalue()


def with_sheet(xml: str) -> bytes:
    """Make a workbook whose sheet has these rows in XML."""
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    part = f'<worksheet xmlns="{namespace}"><sheetData>{xml}</sheetData></worksheet>'.encode()
    return repack(make_workbook(("S", ROWS)), lambda name, old: part if "worksheets/" in name else old)


def test_types_of_cells(tmp_path: Path) -> None:
    content = make_workbook(("Data", ROWS))
    facts = inspect(tmp_path, content)
    assert (facts.format, facts.sheet, facts.sheets, facts.header) == ("xlsx", "Data", ["Data"], True)
    assert types(facts) == {"species": "text", "mass": "number", "seen": "boolean", "day": "date"}
    assert label(facts) == ("species", "classification")
    table = read(tmp_path, content)
    assert column(table, "day")[0] == (date(2024, 1, 1) - date(1970, 1, 1)).days
    assert list(table.lines) == list(range(2, 11))


def test_first_sheet_is_read_or_the_named_one(tmp_path: Path) -> None:
    content = make_workbook(("One", [["y", "x"], ["a", 1], ["b", 2]]), ("Two", [["z", "w"], ["c", 3], ["d", 4]]))
    assert inspect(tmp_path, content).columns[0].name == "y"
    assert inspect(tmp_path, content, sheet="Two").columns[0].name == "z"
    assert "'One', 'Two'" in refuse(tmp_path, content, sheet="Three").detail


def test_table_anywhere_on_a_sheet_keeps_the_rows_of_the_sheet(tmp_path: Path) -> None:
    content = make_workbook(("S", [*[[]] * 4, [None, None, "y", "x"], [], [None, None, "a", 1], [None, None, "b", 2]]))
    table = read(tmp_path, content)
    assert [column.name for column in table.columns] == ["y", "x"]
    assert list(table.lines) == [7, 8]


def test_errors_and_words_for_missing_values(tmp_path: Path) -> None:
    content = make_workbook(("S", [["y", "x"], ["a", 1.5], ["b", "#N/A"], ["c", "NA"], ["d", None]]))
    np.testing.assert_array_equal(column(read(tmp_path, content), "x"), [1.5, np.nan, np.nan, np.nan])


def test_numbers_as_text_have_their_own_decimal_mark(tmp_path: Path) -> None:
    content = make_workbook(("S", [["y", "x", "z"], ["a", "1,5", 1.234], ["b", "2,75", 2.345]]))
    table = read(tmp_path, content)
    assert (column(table, "x"), column(table, "z")) == ([1.5, 2.75], [1.234, 2.345])


def test_formulas_give_their_stored_values(tmp_path: Path) -> None:
    rows = '<row r="1"><c r="A1" t="str"><v>y</v></c><c r="B1" t="str"><v>x</v></c></row>'
    rows += '<row r="2"><c r="A2" t="str"><v>a</v></c><c r="B2"><f>1+1</f><v>2</v></c></row>'
    rows += '<row r="3"><c r="A3" t="str"><v>b</v></c><c r="B3"><f>WEBSERVICE("http://localhost")</f><v>5</v></c></row>'
    assert column(read(tmp_path, with_sheet(rows)), "x") == [2, 5]


def test_macros_are_not_looked_at(tmp_path: Path) -> None:
    content = repack(make_workbook(("S", ROWS)), lambda _, part: part, extra={"xl/vbaProject.bin": b"\xd0\xcf\x11\xe0"})
    assert inspect(tmp_path, content).rows == 9


def test_dates_with_times(tmp_path: Path) -> None:
    content = make_workbook(("S", [["y", "t"], ["a", datetime(1970, 1, 2, 12)], ["b", datetime(1970, 1, 3)]]))  # noqa: DTZ001 - Excel has no time zones
    assert column(read(tmp_path, content), "t") == [1.5, 2]


def test_password_and_old_formats_are_named(tmp_path: Path) -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)
    assert refuse(tmp_path, ole).text.code == "xls-old"
    assert refuse(tmp_path, ole + "EncryptedPackage".encode("utf-16-le")).text.code == "xlsx-password"


def test_zip_archives_that_are_no_workbooks(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("table.csv", "y,x\na,1\n")
    assert refuse(tmp_path, file.getvalue()).text.code == "zip-foreign"


def test_bomb_is_refused_by_what_it_unpacks_to(tmp_path: Path) -> None:
    content = repack(make_workbook(("S", ROWS)), lambda name, old: old + bytes(2**22) if "sheet" in name else old)
    assert len(content) < 2**16
    assert refuse(tmp_path, content, replace(LIMITS, bytes=2**20)).text.code == "file-too-long"


def test_one_cell_at_the_far_corner_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    far = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    assert refuse(tmp_path, with_sheet(far)).text.code == "columns-too-many"
    assert "row 1048576 and column 26" in refuse(tmp_path, with_sheet(far.replace("XFD", "Z"))).detail


def test_formatted_cells_without_values_are_not_part_of_the_table(tmp_path: Path) -> None:
    rows = '<row r="1"><c r="A1" t="str"><v>y</v></c><c r="B1" t="str"><v>x</v></c><c r="XFD1" s="0"/></row>'
    rows += (
        '<row r="2"><c r="A2"><v>1</v></c><c r="B2"><v>2</v></c></row><row r="1048576"><c r="A1048576" s="0"/></row>'
    )
    assert inspect(tmp_path, with_sheet(rows)).rows == 1


def test_long_text_that_many_cells_share_is_counted_for_each(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["y", "x"], *(["t" * 5_000, n] for n in range(300))]
    content = make_workbook(("S", rows))
    assert inspect(tmp_path, content, replace(LIMITS, bytes=2_000_000)).rows == 300
    assert refuse(tmp_path, content, replace(LIMITS, bytes=500_000)).text.code == "file-too-long"


@pytest.mark.parametrize("keep", [30, 200, 1_000, 3_000])
def test_damaged_workbooks_end_in_a_sentence(tmp_path: Path, keep: int) -> None:
    assert refuse(tmp_path, make_workbook(("S", ROWS))[:keep]).text.code in {"xlsx-damaged", "zip-foreign"}


def test_damaged_parts_end_in_a_sentence(tmp_path: Path) -> None:
    content = repack(
        make_workbook(("S", ROWS)), lambda name, old: old[: len(old) // 2] if "worksheets" in name else old
    )
    assert refuse(tmp_path, content).text.code == "xlsx-damaged"
    content = repack(make_workbook(("S", ROWS)), lambda name, old: b"<workbook" if name == "xl/workbook.xml" else old)
    assert refuse(tmp_path, content).text.code == "xlsx-damaged"


def test_empty_sheet(tmp_path: Path) -> None:
    assert refuse(tmp_path, make_workbook(("S", []))).text.code == "sheet-empty"


@pytest.mark.parametrize("options", [{"delimiter": ","}, {"encoding": "utf-8"}])
def test_options_of_texts_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    assert refuse(tmp_path, make_workbook(("S", ROWS)), **options).text.code == "option-unused"
