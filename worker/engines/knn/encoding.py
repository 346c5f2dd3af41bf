"""Fills gaps, encodes codes, and scales numbers; everything is fitted to the training part only.

The result is that of scikit-learn's ``ColumnTransformer`` of three pipelines: ``SimpleImputer(strategy="median")`` and
a scaler for numbers; ``SimpleImputer(strategy="most_frequent")`` for booleans; and this imputer with
``OneHotEncoder(handle_unknown="ignore")`` for texts. For texts as ordinals, ``OrdinalEncoder`` with -1 for unknown
values, and the scaler, take the place of the last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from shared.errors import JobFailedError
from shared.kinds.knn.parameters import Normalisation
from shared.texts import text
from worker.engines.knn import scaling
from worker.engines.knn.dataset import Dataset, Encoding
from worker.engines.knn.scaling import Scaling
from worker.engines.knn.space import Floats, Indices

UNKNOWN: Final = -1.0
"""The ordinal of a value that does not occur in the training part."""


@dataclass(frozen=True)
class Encoder:
    """Makes the rows that are measured of rows of a data set.

    Parameters
    ----------
    fills
        Shape (d,): the value that replaces a missing one. An attribute without any value in the training part has
        none, and is left out.
    numbers, booleans
        The indices of the attributes that are scaled, ordinals among them, and of those that stay 0 or 1.
    ordinals
        Pairs of a position in ``numbers``, and the codes of this attribute in the training part.
    onehots
        Pairs of an index, and the codes of this attribute in the training part.
    scaling
        How numbers are scaled; None if they stay as they are.
    """

    fills: Floats
    numbers: Indices
    booleans: Indices
    ordinals: Sequence[tuple[int, Floats]]
    onehots: Sequence[tuple[int, Floats]]
    scaling: Scaling | None

    def apply(self, rows: Floats) -> Floats:
        """Encode rows, shape (m, d); returns shape (m, w)."""
        filled = np.where(np.isnan(rows), self.fills, rows)
        numbers = self.rank(filled)
        if self.scaling is not None:
            numbers = self.scaling.apply(numbers)
        indicators = [filled[:, [index]] == codes for index, codes in self.onehots]
        return np.concatenate([numbers, filled[:, self.booleans], *indicators], axis=1)

    def rank(self, filled: Floats) -> Floats:
        """Return the numbers of rows, with the rank of each ordinal among the codes of the training part."""
        numbers = filled[:, self.numbers]
        for position, codes in self.ordinals:
            rank = np.minimum(np.searchsorted(codes, numbers[:, position]), len(codes) - 1)
            numbers[:, position] = np.where(codes[rank] == numbers[:, position], rank, UNKNOWN)
        return numbers


def fit(dataset: Dataset, training: Floats, normalise: Normalisation) -> Encoder | Scaling | None:
    """Fit to the training part, shape (n, d), what makes rows measurable; None if they are so already.

    Raises
    ------
    JobFailedError
        No attribute has a value in the training part.
    """
    if not dataset.coded and not len(dataset.gaps):
        return scaling.fit(normalise, training)
    kept = np.flatnonzero(~np.isnan(training).all(axis=0)).tolist()
    if not kept:
        raise JobFailedError("dataset-invalid", text("fold-without-attributes"))
    fills = _find_fills(dataset, training)
    filled = np.where(np.isnan(training), fills, training)
    encodings = {index: dataset.coded[index].encoding for index in kept if index in dataset.coded}
    unscaled = {Encoding.BOOLEAN, Encoding.ONEHOT}
    numbers = [index for index in kept if encodings.get(index) not in unscaled]
    encoder = Encoder(
        fills=fills,
        numbers=np.array(numbers, np.int64),
        booleans=np.array([index for index in kept if encodings.get(index) is Encoding.BOOLEAN], np.int64),
        ordinals=[
            (position, np.unique(filled[:, index])) for position, index in enumerate(numbers) if index in encodings
        ],
        onehots=[(index, np.unique(filled[:, index])) for index in kept if encodings.get(index) is Encoding.ONEHOT],
        scaling=None,
    )
    return replace(encoder, scaling=scaling.fit(normalise, encoder.rank(filled))) if numbers else encoder


def _find_fills(dataset: Dataset, training: Floats) -> Floats:
    """Find what replaces a missing value, shape (d,); NaN for an attribute without gaps or without any value."""
    fills = np.full(training.shape[1], np.nan)
    for index in dataset.gaps.tolist():
        present = training[~np.isnan(training[:, index]), index]
        if not len(present):
            continue
        if index in dataset.coded:  # the most frequent code, the first one if several are
            fills[index] = np.bincount(present.astype(np.int64)).argmax()
        else:
            fills[index] = np.median(present)
    return fills
