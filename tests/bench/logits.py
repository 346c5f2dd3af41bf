"""How far logits are from others that are exact."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Distance:
    """How far logits are from exact ones.

    Parameters
    ----------
    error
        The root mean square of the differences, in comparison to that of the exact ones.
    equal
        The share of places whose likeliest token is the same.
    """

    error: float
    equal: float

    @classmethod
    def measure(cls, logits: Floats, exact: Floats) -> Self:
        """Compare logits of one shape, the last axis being the vocabulary."""
        wide = exact.astype(np.float64)
        error = np.sqrt(np.square(logits - wide).mean() / np.square(wide).mean())
        return cls(float(error), float((logits.argmax(axis=-1) == exact.argmax(axis=-1)).mean()))

    @classmethod
    def average(cls, distances: Iterable[Self]) -> Self:
        """Average several."""
        listed = list(distances)
        return cls(float(np.mean([one.error for one in listed])), float(np.mean([one.equal for one in listed])))
