"""How much the logits of a lower precision differ from the exact logits, which are those of float32."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LogitDifference:
    """How much logits differ from exact logits.

    Parameters
    ----------
    relative_error
        The root mean square of the differences, divided by the root mean square of the exact logits.
    equal_tokens
        How often the compared logits and the exact logits have the same likeliest token, as a share. There is one token
        per position and codebook.
    """

    relative_error: float
    equal_tokens: float

    @classmethod
    def measure(cls, logits: Floats, exact: Floats) -> Self:
        """Compare logits of the same shape, whose last axis is the vocabulary."""
        wide = exact.astype(np.float64)
        error = np.sqrt(np.square(logits - wide).mean() / np.square(wide).mean())
        return cls(float(error), float((logits.argmax(axis=-1) == exact.argmax(axis=-1)).mean()))

    @classmethod
    def average(cls, differences: Iterable[Self]) -> Self:
        """Average several differences."""
        listed = list(differences)
        return cls(
            float(np.mean([each.relative_error for each in listed])),
            float(np.mean([each.equal_tokens for each in listed])),
        )
