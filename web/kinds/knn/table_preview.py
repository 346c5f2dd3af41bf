"""What the form shows of the chosen table: the first rows, and the columns that can be the label."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from shared.database.tables import Upload
from shared.files.file_store import FileStore
from shared.kinds.knn import csv_files, datasets
from web.kinds.job_form import read_number

PREVIEW_ROWS: Final = 5


def read_preview(files: FileStore, upload: Upload | None, *, header: bool) -> csv_files.Preview:
    """Read the first rows of an uploaded table, or of the Wine data set if there is no upload.

    Raises
    ------
    FileNotFoundError
        The file of the upload is missing.
    RequestInvalidError
        The file is not a table.
    """
    columns = None if upload else (datasets.WINE.label, *datasets.WINE.columns)
    with _open_table(files, upload) as path:
        return csv_files.preview(path, PREVIEW_ROWS, columns, header=header)


def list_labels(columns: Sequence[str], *, header: bool) -> list[tuple[str, str]]:
    """For each column, return the value that selects this column as the label, and the name of the column."""
    return [
        (name if header and _is_unambiguous(name, columns) else str(index), name) for index, name in enumerate(columns)
    ]


def _open_table(files: FileStore, upload: Upload | None) -> AbstractContextManager[Path]:
    if upload is None:
        return nullcontext(datasets.DATA_FOLDER / datasets.WINE.file)
    return files.local_copy(upload.key)


def _is_unambiguous(name: str, columns: Sequence[str]) -> bool:
    """Return whether a name selects exactly one column. A number does not, because it would be read as an index."""
    return bool(name) and columns.count(name) == 1 and read_number(name) == name
