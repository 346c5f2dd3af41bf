"""Orders of rows that do not depend on the order of the rows in the file.

Files are often sorted by the label. If the order of the file decided which of many rows at equal distance are
neighbours, one class would win every tie. So rows are first sorted by their content, then shuffled by the seed of the
evaluation: rows with equal content are interchangeable, so the same rows in any order of the file give the same order.
"""

from typing import Final

import numpy as np

from worker.engines.knn.dataset import Dataset
from worker.engines.knn.space import Indices

TIES: Final = 2**8
"""Distinguishes the random numbers of the order of ties from those of the repeats of folds."""


def sort_by_content(dataset: Dataset) -> Indices:
    """Return the indices of all rows, sorted by attributes and label, shape (n,).

    Numbers are compared in float32, so that files that write the same numbers with more or fewer digits give the same
    order.
    """
    with np.errstate(over="ignore"):  # values beyond float32 are compared as infinite
        keys = np.column_stack([dataset.labels, dataset.attributes]).astype(np.float32)
    return np.asarray(np.lexsort(keys.T))


def place_ties(content_order: Indices, seed: int) -> Indices:
    """Give each row a place on a circle, shape (n,); from a query's own place on, rows at equal distance are ranked.

    All queries start at different places, so no row is the nearest to all queries that have the same distances: if they
    all started at the same place, the label of one row would decide for all of them. On a table of 2,201 rows with 14
    different contents, one nearest neighbour then was right in 48 % to 77 % of the rows, depending on the seed; with
    places on a circle in 68 % to 71 %, close to the expected 70 %.
    """
    places = np.empty_like(content_order)
    places[content_order] = np.random.default_rng([seed, TIES]).permutation(len(content_order))
    return places
