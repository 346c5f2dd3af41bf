"""Excel workbooks: a sheet as rows of text. Formulas give the values that Excel stored; macros are never looked at.

The sizes in the directory of a zip file can lie, and a sheet with one cell at its far corner takes the memory of all
cells between. So the parts of the workbook that are needed are unpacked here, within the limit, the extent of the sheet
is measured, and only then calamine reads what was unpacked.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final
from xml.etree import ElementTree as ET

import polars as pl
from python_calamine import CalamineError, CalamineWorkbook

from shared.tables.bad_cells import BadCells
from shared.tables.content import Content
from shared.tables.errors import TableError
from shared.tables.facts import Limits, ReadOptions
from shared.tables.grid import Grid, GridBuilder, Row, check_width
from shared.texts import text

_WORKBOOK: Final = "xl/workbook.xml"
_RELATIONS: Final = "xl/_rels/workbook.xml.rels"
_STRINGS: Final = "xl/sharedStrings.xml"
_ID: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_NEEDED: Final = re.compile(
    r"\[Content_Types\]\.xml|_rels/\.rels|xl/[^/]+\.xml|xl/_rels/[^/]+|xl/worksheets/[^/]+\.xml"
)
_CHUNK_BYTES: Final = 2**20
_FILLED: Final = re.compile(rb"<(?:\w+:)?c\s[^>]*?\br=[\"']([A-Z]{1,3})([0-9]{1,7})[\"'](?:[^>]*[^/>])?>(?!\s*</)")
_UNPLACED: Final = re.compile(rb"<(?:\w+:)?(?:c|row)(?![^>]*?\sr=)(?:\s[^>]*)?>")
_STRING_CELL: Final = re.compile(rb"<(?:\w+:)?c\b[^>]*?\bt=[\"']s[\"'][^>]*>\s*<(?:\w+:)?v>([0-9]{1,9})<")
_STRING: Final = re.compile(rb"<(?:\w+:)?si\b.*?</(?:\w+:)?si>|<(?:\w+:)?si\s*/>", re.DOTALL)
_LETTERS: Final = 26
_MAX_EXTENT: Final = 2**23  # cells, which calamine and Python need 60 bytes for, each
_DAMAGED: Final = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, KeyError, ValueError, ET.ParseError, OSError
)  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """A sheet that was read, its name, and the names of all sheets of the workbook."""

    grid: Grid
    name: str
    sheets: list[str]


def read_xlsx(content: Content, options: ReadOptions, limits: Limits, bad: BadCells) -> Sheet:
    """Read a sheet of a workbook: the named one, or the first one.

    Raises
    ------
    TableError
        The file is damaged or no workbook, there is no such sheet, or it cannot be read as a table.
    """
    parts = _unpack(content.data, limits)
    try:
        paths = _list_sheets(parts)
    except _DAMAGED as error:
        raise TableError(text("xlsx-damaged")) from error
    if options.sheet is not None and options.sheet not in paths:
        known = ", ".join(repr(name) for name in list(paths)[:20])
        raise TableError(text("sheet-unknown", sheet=options.sheet, sheets=known))
    name = options.sheet or next(iter(paths))
    _check_extent(parts.get(paths[name], b""), parts.get(_STRINGS, b""), name, limits)
    rows, width = _read_sheet(parts, name)
    grid = GridBuilder(width, limits, bad).build(rows, None, header=options.header)
    return Sheet(grid, name, list(paths))


def _unpack(data: bytes, limits: Limits) -> dict[str, bytes]:
    """Unpack the parts of a workbook that are read, within the limit."""
    parts: dict[str, bytes] = {}
    left = limits.bytes
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            if _WORKBOOK not in names:
                raise TableError(text("zip-foreign"))
            if len(names) != len(archive.namelist()):
                raise TableError(text("xlsx-damaged"))  # two parts with one name: programs differ in which they read
            for member in archive.infolist():
                if not _NEEDED.fullmatch(member.filename):
                    continue
                if member.flag_bits & 1:
                    raise TableError(text("xlsx-password"))
                if member.file_size > left:
                    raise TableError(text("file-too-long", max_bytes=limits.bytes))
                with archive.open(member) as file:
                    parts[member.filename] = file.read(left + 1)
                left -= len(parts[member.filename])
                if left < 0:
                    raise TableError(text("file-too-long", max_bytes=limits.bytes))
    except _DAMAGED as error:
        raise TableError(text("xlsx-damaged")) from error
    return parts


def _list_sheets(parts: Mapping[str, bytes]) -> dict[str, str]:
    """Return the path of each worksheet, keyed by its name, in the order of the workbook."""
    targets = {node.get("Id"): node.get("Target", "") for node in ET.fromstring(parts[_RELATIONS])}  # noqa: S314
    sheets = {}
    for node in ET.fromstring(parts[_WORKBOOK]).iter():  # noqa: S314 - expat limits what entities expand to
        if node.tag.rpartition("}")[2] == "sheet":
            target = targets.get(node.get(_ID), "")
            path = target.lstrip("/") if target.startswith("/xl/") else f"xl/{target}"
            if path.startswith("xl/worksheets/"):  # a sheet with nothing but a chart has no cells
                sheets[node.attrib["name"]] = path
    if not sheets:
        raise KeyError(_WORKBOOK)
    return sheets


def _check_extent(sheet: bytes, strings: bytes, name: str, limits: Limits) -> None:
    """Check how far a sheet reaches, and how long its texts are, if each cell has its own copy."""
    columns: set[bytes] = set()
    max_row = 0
    for letters, row in _FILLED.findall(sheet):
        columns.add(letters)
        max_row = max(max_row, int(row))
    unplaced = sum(1 for _ in _UNPLACED.finditer(sheet))  # cells and rows that follow the one before
    width = max(map(_column_number, columns), default=0) + unplaced
    if not width:
        raise TableError(text("sheet-empty", sheet=name))
    if columns and not unplaced:
        check_width(max(2, width - min(map(_column_number, columns)) + 1), limits)
    if width * (max_row + unplaced) > _MAX_EXTENT:
        raise TableError(text("sheet-too-far", sheet=name, row=max_row, column=width))
    lengths = [len(string) for string in _STRING.findall(strings)]
    total = sum(lengths[int(index)] for index in _STRING_CELL.findall(sheet) if int(index) < len(lengths))
    if total > limits.bytes:
        raise TableError(text("file-too-long", max_bytes=limits.bytes))


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * _LETTERS + letter - ord("A") + 1
    return number


def _read_sheet(parts: Mapping[str, bytes], name: str) -> tuple[Iterator[Row], int]:
    """Return the rows of a sheet with their numbers, and the width of the sheet."""
    repacked = io.BytesIO()
    with zipfile.ZipFile(repacked, "w") as archive:
        for path, part in parts.items():
            archive.writestr(path, part)
    repacked.seek(0)
    try:
        sheet = CalamineWorkbook.from_filelike(repacked).get_sheet_by_name(name)
    except (CalamineError, *_DAMAGED, pl.exceptions.PanicException) as error:
        raise TableError(text("xlsx-damaged")) from error
    if not sheet.width:
        raise TableError(text("sheet-empty", sheet=name))
    # The iterator begins at the first row of the sheet, and at the first column that has a value.
    rows = enumerate(sheet.iter_rows(), start=1)
    return ((number, [_show(cell) for cell in row]) for number, row in rows), sheet.width


def _show(cell: float | str | bool | date | datetime | time | timedelta) -> str:  # noqa: FBT001 - a cell's value
    """Return a cell as text, as a text file would have it."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell)
    if isinstance(cell, timedelta):
        return repr(cell / timedelta(days=1))
    return str(cell)
