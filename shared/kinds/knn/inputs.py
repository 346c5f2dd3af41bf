"""Checks at submission that a data set and the parameters of a job fit together."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.kinds.knn import csv_tables
from shared.kinds.knn.parameters import KnnParams, UploadedDataset
from shared.kinds.knn.resolution import resolve
from shared.settings import Settings
from shared.tables.facts import Limits

# Only one table is read at a time. Parallel reads would not be faster, since they share the interpreter, and would need
# the memory of all tables together.
_LOADING: Final = threading.Lock()


def check_inputs(params: KnnParams, files: Mapping[str, Path], settings: Settings) -> None:
    """Read the data set, and check that the parameters are possible for the data set.

    Raises
    ------
    RequestInvalidError
        A field is wrong. The error contains every wrong field.
    """
    facts = None
    if isinstance(params.dataset, UploadedDataset):
        with _LOADING:
            path = files[params.dataset.upload]
            facts = csv_tables.inspect_table(path, params.dataset.read_options, limits_of(settings))
    resolve(params, facts)


def limits_of(settings: Settings) -> Limits:
    """Return the maximum size of a table."""
    return Limits(settings.max_dataset_rows, settings.max_dataset_columns, settings.max_upload_bytes)
