"""Checks at submission that a data set and the parameters of a job fit together."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.kinds.knn import datasets
from shared.kinds.knn.csv_files import Limits
from shared.kinds.knn.parameters import KnnParams
from shared.settings import Settings

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
    with _LOADING:
        datasets.check(params, datasets.load(params, dict(files), limits_of(settings)))


def limits_of(settings: Settings) -> Limits:
    """Return the maximum size of a table."""
    return Limits(settings.max_dataset_rows, settings.max_dataset_columns)
