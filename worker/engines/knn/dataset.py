"""A table that is prepared for an evaluation: attributes as numbers or codes, and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from worker.engines.knn.space import Floats, Indices, Labels


class Encoding(StrEnum):
    """What a code of an attribute becomes in each fold.

    A boolean stays 0 or 1, and is not scaled: it is a one-hot column of a text with two values, so ``TRUE`` and
    ``FALSE`` have the same weight as ``yes`` and ``no``.
    """

    BOOLEAN = "boolean"
    ONEHOT = "onehot"
    ORDINAL = "ordinal"


@dataclass(frozen=True)
class Coded:
    """An attribute that contains codes: indices in ``values``, which are in ascending order."""

    encoding: Encoding
    values: Sequence[str]


@dataclass(frozen=True)
class Dataset:
    """Rows with attributes and a label.

    Parameters
    ----------
    name
        The name of the data set in titles.
    columns
        The names of the d attributes.
    attributes
        The attributes of the n rows: shape (n, d), float64, NaN if missing.
    labels
        The labels of the n rows: shape (n,). For classification the index of the class in ``classes``, int64; for
        regression the value, float64.
    classes
        The names of the classes in ascending order; empty for regression.
    coded
        The attributes that contain codes, keyed by index; the others contain numbers.
    rows
        For each row its index in the table, shape (n,), if rows of the table are left out; None if all rows are used.
    """

    name: str
    columns: list[str]
    attributes: Floats
    labels: Labels
    classes: list[str]
    coded: Mapping[int, Coded] = field(default_factory=dict)
    rows: Indices | None = None

    @cached_property
    def gaps(self) -> Indices:
        """The attributes that are missing in at least one row."""
        return np.flatnonzero(np.isnan(self.attributes).any(axis=0))

    def find_rows(self, index: Indices) -> Indices:
        """Return the indices in the table of rows of the data set."""
        return index if self.rows is None else self.rows[index]


def is_encoded_alike(dataset: Dataset) -> bool:
    """Return whether an encoding without scaling is the same in the training part of every leave-one-out fold.

    It is if nothing is imputed, and no value of a text is that of a single row, so that leaving a row out loses none.
    """
    if len(dataset.gaps):
        return False
    texts = [index for index, coded in dataset.coded.items() if coded.encoding is not Encoding.BOOLEAN]
    return all((np.bincount(dataset.attributes[:, index].astype(np.int64)) != 1).all() for index in texts)
