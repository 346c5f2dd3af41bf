"""The sentences of k nearest neighbours in English; see `shared.texts`."""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {}
"""Code to sentence."""

TITLES: Final[Mapping[str, str]] = {
    "dataset-invalid": "The data set does not fit the job",
    "negative-values": "A row is not a distribution",
    "too-many-classes": "The label has too many values",
    "values-too-large": "The values are too large",
}
"""Type of error to its title."""
