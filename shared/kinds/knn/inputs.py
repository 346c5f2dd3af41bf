"""Checks at submission that a data set and the parameters of a job fit together."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.kinds.knn import datasets
from shared.kinds.knn.csv_files import Limits
from shared.kinds.knn.parameters import KnnParams
from shared.settings import Settings

# One table at a time: parallel reads would only share the interpreter, and their memory would add up.
_LOADING: Final = threading.Lock()


def check_inputs(params: KnnParams, files: Mapping[str, Path], settings: Settings) -> None:
    """Read the data set and compare it with the parameters.

    Raises
    ------
    RequestInvalidError
        Names each field that is wrong.
    """
    with _LOADING:
        datasets.check(params, datasets.load(params, dict(files), limits_of(settings)))


def limits_of(settings: Settings) -> Limits:
    """Return how large a table may be."""
    return Limits(settings.max_dataset_rows, settings.max_dataset_columns)
