"""The sentences of music generation in English; see `shared.texts`."""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {}
"""Code to sentence."""

TITLES: Final[Mapping[str, str]] = {
    "clip-unreadable": "The audio clip cannot be read",
    "clip-empty": "The audio clip is empty",
    "clip-range": "The audio clip does not have this part",
    "clip-too-long": "The part of the audio clip is too long",
    "format-unfit": "The format does not support the audio",
    "model-invalid": "The model's files cannot be used",
    "model-unavailable": "The model cannot be downloaded",
    "not-finite": "The model produced NaN or infinite values",
    "precision-unavailable": "This precision is not available here",
    "too-long": "The music is longer than the model can generate",
    "too-short": "No new audio would be generated",
    "unsupported": "The backend does not support this",
}
"""Type of error to its title."""
