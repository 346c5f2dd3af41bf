"""Any table that can be written comes back the same, and any bytes end in facts or in a sentence."""

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from shared.tables.errors import TableError
from shared.tables.facts import Limits, ReadOptions
from shared.tables.reading import inspect_table, read_table
from shared.tables.table import Table
from shared.texts import load_sentences
from tests.unit.shared.tables.reading_files import LIMITS, write
from tests.unit.shared.tables.test_arff import WEATHER
from tests.unit.shared.tables.test_xlsx import make_workbook

Cell = str | int | float | date | bool | None
EPOCH: Final = date(1970, 1, 1)
SMALL: Final = Limits(rows=1_000, columns=100, bytes=2**20)
# A text begins with a letter, so that it is no number, date, comment or missing cell.
TEXTS: Final = st.text("aZäß北 ,;|\t\"'#%.-01\n\\", max_size=8).map(lambda text: "w" + text.rstrip())
COLUMNS: Final = (
    st.integers(-(10**9), 10**9),
    st.integers(-(10**6), 10**6).map(lambda number: number / 4),
    st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    TEXTS,
)
quick = settings(
    max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass(frozen=True)
class Written:
    """A table as a test writes it."""

    names: list[str]
    rows: list[list[Cell]]


@st.composite
def tables(draw: st.DrawFn) -> Written:
    """Draw a table whose first column is never missing."""
    rows = draw(st.integers(2, 8))
    kinds = draw(st.lists(st.sampled_from(COLUMNS).map(lambda cells: st.none() | cells), min_size=1, max_size=4))
    columns = [draw(st.lists(cells, min_size=rows, max_size=rows)) for cells in (TEXTS, *kinds)]
    names = [f"{'abcdef'[index]}{draw(TEXTS)}" for index in range(len(columns))]
    return Written(names, [list(row) for row in zip(*columns, strict=True)])


def expect(cell: Cell) -> float | str | None:
    if isinstance(cell, date):
        return float((cell - EPOCH).days)
    return cell if isinstance(cell, str) or cell is None else float(cell)


def check(table: Table, written: Written) -> None:
    assert [column.name for column in table.columns] == [name.strip() for name in written.names]
    for column, *cells in zip(table.columns, *written.rows, strict=True):
        expected = [expect(cell) for cell in cells]
        if column.texts is not None:
            assert list(column.texts) == expected
        else:
            assert column.numbers is not None
            np.testing.assert_array_equal(column.numbers, np.array(expected, np.float64))


def show(cell: Cell, decimal: str, thousands: str) -> str:
    if cell is None:
        return "NA"
    if isinstance(cell, (str, date)):
        return str(cell)
    return f"{cell:,}".replace(",", "t").replace(".", decimal).replace("t", thousands)


def write_text(written: Written, delimiter: str, decimal: str = ".", thousands: str = "") -> str:
    file = io.StringIO()
    always = delimiter == " "
    writer = csv.writer(
        file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL
    )
    writer.writerow(written.names)
    writer.writerows([show(cell, decimal, thousands) for cell in row] for row in written.rows)
    return file.getvalue()


def write_arff(written: Written) -> str:
    kinds = {int: "numeric", float: "numeric", date: "date", str: "string"}
    lines = ["@relation r"]
    for name, *cells in zip(written.names, *written.rows, strict=True):
        kind = next((kinds[type(cell)] for cell in cells if cell is not None), "numeric")
        lines.append(f"@attribute {quote(name)} {kind}")
    lines += ["@data", *(",".join("?" if cell is None else quote(str(cell)) for cell in row) for row in written.rows)]
    return "\n".join(lines)


def quote(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@dataclass(frozen=True)
class Form:
    """How a table is written as text."""

    delimiter: str
    marks: tuple[str, str]
    encoding: str
    compressed: bool


FORMS: Final = st.builds(
    Form,
    st.sampled_from(",;\t| "),
    st.sampled_from([(".", ""), (",", ""), (".", ","), (",", "."), (",", " "), (".", "'")]),
    st.sampled_from(["utf-8", "utf-16", "utf-16-le", "gb18030", "cp1252"]),
    st.booleans(),
)


@quick
@given(tables(), FORMS)
def test_text_with_delimiters(tmp_path: Path, written: Written, form: Form) -> None:
    text = write_text(written, form.delimiter, *form.marks)
    assume(form.encoding != "cp1252" or "\u5317" not in text)
    content = text.encode(form.encoding)
    path = write(tmp_path, gzip.compress(content) if form.compressed else content)
    options = ReadOptions(header=True, delimiter=form.delimiter, decimal=form.marks[0], encoding=form.encoding)
    check(read_table(path, options, LIMITS), written)


@st.composite
def plain_tables(draw: st.DrawFn) -> Written:
    """Draw a table from which everything can be detected: it has names, classes and decimal fractions."""
    rows = draw(st.integers(6, 12))
    label = draw(st.lists(st.sampled_from(["alpha", "beta", "gamma"]), min_size=rows, max_size=rows))
    numbers = st.lists(st.integers(-4_000, 4_000).map(lambda number: number / 4 + 0.25), min_size=rows, max_size=rows)
    columns: list[Sequence[Cell]] = [label, *draw(st.lists(numbers, min_size=2, max_size=3))]
    if draw(st.booleans()):
        columns.append(draw(st.lists(TEXTS, min_size=rows, max_size=rows)))
    names = ["kind", "width", "height", "depth", "remark"][: len(columns)]
    return Written(names, [list(row) for row in zip(*columns, strict=True)])


@quick
@given(
    plain_tables(),
    st.sampled_from(",;\t| "),
    st.sampled_from([(".", ""), (",", "")]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
)
def test_text_of_which_all_is_detected(
    tmp_path: Path, written: Written, delimiter: str, marks: tuple[str, str], encoding: str
) -> None:
    path = write(tmp_path, write_text(written, delimiter, *marks), encoding)
    check(read_table(path, ReadOptions(), LIMITS), written)
    facts = inspect_table(path, ReadOptions(), LIMITS)
    resolved = ReadOptions(
        header=facts.header, delimiter=facts.delimiter, decimal=facts.decimal, encoding=facts.encoding
    )
    check(read_table(path, resolved, LIMITS), written)
    assert facts.delimiter == delimiter


@quick
@given(tables(), st.booleans())
def test_excel(tmp_path: Path, written: Written, second: bool) -> None:
    rows: list[list[Any]] = [written.names, *written.rows]
    other: list[list[Any]] = [["x", "y"], [1, 2]]
    sheets = [("Other", other), ("Data", rows)]
    path = write(tmp_path, make_workbook(*sheets[not second :]))
    check(read_table(path, ReadOptions(header=True, sheet="Data"), LIMITS), written)


@quick
@given(tables())
def test_parquet(tmp_path: Path, written: Written) -> None:
    names = [name.strip() for name in written.names]
    frame = pl.DataFrame([list(column) for column in zip(*written.rows, strict=True)], schema=names, strict=False)
    file = io.BytesIO()
    frame.write_parquet(file)
    check(read_table(write(tmp_path, file.getvalue()), ReadOptions(), LIMITS), written)


@quick
@given(tables())
def test_arff(tmp_path: Path, written: Written) -> None:
    def join(cell: Any) -> Any:
        return cell.replace("\n", " ") if isinstance(cell, str) else cell

    joined = Written([join(name) for name in written.names], [[join(cell) for cell in row] for row in written.rows])
    check(read_table(write(tmp_path, write_arff(joined)), ReadOptions(), LIMITS), joined)


def make_files() -> list[bytes]:
    """Make a small file of each format, for damage."""
    csv_file = b"y;x;z\n" + b'a;1,5;2024-01-01\nb;2,5;\n"c;d";1.234,5;NA\n' * 3
    parquet = io.BytesIO()
    pl.DataFrame({"y": ["a", "b", None] * 9, "x": [1.5, None, 2.0] * 9}).write_parquet(parquet)
    workbook = make_workbook(("S", [["y", "x"], ["a", 1.5], ["b", None]]))
    wide = csv_file.decode().encode("utf-16")
    return [csv_file, gzip.compress(csv_file), wide, parquet.getvalue(), workbook, WEATHER.encode()]


FILES: Final = make_files()


def inspect_any(folder: Path, content: bytes, options: ReadOptions) -> None:
    path = write(folder, content)
    error: TableError | None = None
    try:
        facts = inspect_table(path, options, SMALL)
    except TableError as refused:
        error = refused
    else:
        assert len(read_table(path, options, SMALL).lines) == facts.rows > 0
        assert type(facts).model_validate_json(facts.model_dump_json()) == facts
    if error is not None:
        assert {error.text.code, *(detail.code for detail in error.text.details)} <= load_sentences().keys()
        assert error.detail.endswith(".")


OPTIONS: Final = st.builds(
    ReadOptions,
    header=st.sampled_from([None, True, False]),
    delimiter=st.sampled_from([None, None, ",", ";", " "]),
    decimal=st.sampled_from([None, None, ".", ","]),
    encoding=st.sampled_from([None, None, "utf-16", "cp1252", "gb18030"]),
)


@settings(quick, max_examples=100)
@given(st.binary(max_size=200) | st.text("ab,;| \t\n\r\"'#%.-015eé@{}?", max_size=80).map(str.encode), OPTIONS)
def test_any_bytes_end_in_facts_or_a_sentence(tmp_path: Path, content: bytes, options: ReadOptions) -> None:
    inspect_any(tmp_path, content, options)


@settings(quick, max_examples=150)
@given(st.sampled_from(FILES), st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=3), st.booleans())
def test_damaged_files_end_in_facts_or_a_sentence(
    tmp_path: Path, content: bytes, changes: list[tuple[float, bytes]], cut: bool
) -> None:
    damaged = content
    for place, replacement in changes:
        start = int(place * len(damaged))
        damaged = damaged[:start] + replacement + damaged[start + (0 if cut else len(replacement)) :]
    inspect_any(tmp_path, damaged, ReadOptions())
