"""Reads the table of a job, built in or uploaded."""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from shared.kinds.knn.datasets import BUILTINS, DATA_FOLDER, load_facts
from shared.kinds.knn.parameters import BuiltinDataset, KnnParams
from shared.kinds.knn.resolution import resolve
from shared.tables.facts import Limits
from shared.tables.table import Column, Table

UPLOAD_TITLE: Final = "Uploaded table"


def complete_params(params: KnnParams) -> KnnParams:
    """Return complete parameters. The submission has completed those of an upload.

    Raises
    ------
    RequestInvalidError
        The job cannot succeed.
    """
    return resolve(params, None) if isinstance(params.dataset, BuiltinDataset) else params


def load_table(params: KnnParams, files: Mapping[str, Path], limits: Limits) -> tuple[str, Table]:
    """Return the title of a job's table, and the table.

    Raises
    ------
    TableError
        The file cannot be read as a table.
    """
    if isinstance(params.dataset, BuiltinDataset):
        return BUILTINS[params.dataset.name].title, _load_builtin(params.dataset.name)
    from shared.tables.reading import read_table  # noqa: PLC0415 - loads polars, which most jobs do without

    return UPLOAD_TITLE, read_table(files[params.dataset.upload], params.dataset.read_options, limits)


@cache
def _load_builtin(name: str) -> Table:
    """Read a built-in table only once per process, since most jobs that need no file are short."""
    with (DATA_FOLDER / BUILTINS[name].file).open(newline="") as file:
        numbers = np.array([*csv.reader(file)], np.float64)
    numbers.flags.writeable = False  # the cached table is shared
    columns = [
        Column(column.name, column.type, numbers=numbers[:, index])
        for index, column in enumerate(load_facts(name).columns)
    ]
    return Table(columns, np.arange(len(numbers)) + 1)
