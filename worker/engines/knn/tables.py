"""Reads the table of a job, built in or uploaded."""

import csv
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from shared.kinds.knn.csv_tables import inspect_table, read_table
from shared.kinds.knn.datasets import BUILTINS, DATA_FOLDER, load_facts
from shared.kinds.knn.parameters import BuiltinDataset, KnnParams
from shared.kinds.knn.resolution import resolve
from shared.tables.facts import Limits
from shared.tables.table import Column, Table

UPLOAD_TITLE: Final = "Uploaded table"


def complete_params(params: KnnParams, file: Path | None, limits: Limits) -> KnnParams:
    """Return complete parameters. A submission has completed them; a job that is run without the service has not.

    Raises
    ------
    RequestInvalidError
        The job cannot succeed.
    """
    if isinstance(params.dataset, BuiltinDataset):
        return resolve(params, None)
    if file is None:
        raise ValueError("the job has no file")
    if params.task is not None and params.dataset.label is not None and params.dataset.exclude is not None:
        return params
    return resolve(params, inspect_table(file, params.dataset.read_options, limits))


def load_table(params: KnnParams, file: Path | None, limits: Limits) -> tuple[str, Table]:
    """Return the title of a job's table, and the table.

    Raises
    ------
    RequestInvalidError
        The file is not a table.
    """
    if isinstance(params.dataset, BuiltinDataset):
        return BUILTINS[params.dataset.name].title, _load_builtin(params.dataset.name)
    if file is None:
        raise ValueError("the job has no file")
    return UPLOAD_TITLE, read_table(file, params.dataset.read_options, limits)


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
