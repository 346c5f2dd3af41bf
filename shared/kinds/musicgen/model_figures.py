"""The figures of a model that decide how long its music can be, read from the configuration file of its folder.

The worker reads the whole configuration (``worker.engines.musicgen.model.configuration``), and these figures here.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

from shared.errors import JobFailedError
from shared.kinds.musicgen.catalogue import CONFIGURATION, find_model, get_published_channels
from shared.settings import Settings
from shared.texts import Text, Value, text

MAX_VALUE: Final = 1e12
"""Every number must be smaller than this. No number of a model is so large, and infinite numbers, which Python's JSON
parser accepts, are refused."""
MAX_REMEMBERED: Final = 64
"""The figures of this many configuration files are remembered."""


@dataclass(frozen=True)
class ModelFigures:
    """The figures of a model that decide how long its music can be.

    Parameters
    ----------
    positions
        How many positions the decoder has: the start token, the frames of a clip, and the new tokens.
    codebooks
        The number of codebooks, of all channels together.
    channels
        1 for mono, 2 for stereo.
    sample_rate_hz
        The sampling rate of the audio.
    ratios
        The strides of the codec; their product is the number of samples per frame.
    """

    positions: int
    codebooks: int
    channels: int
    sample_rate_hz: int
    ratios: tuple[int, ...]

    @classmethod
    def read(cls, decoder: "ConfigPart", codec: "ConfigPart") -> Self:
        """Read the figures from the objects ``decoder`` and ``audio_encoder`` of a configuration.

        Raises
        ------
        JobFailedError
            A value is wrong; the error contains its key.
        """
        return cls(
            positions=decoder.count("max_position_embeddings", default=2048),
            codebooks=decoder.count("num_codebooks", default=4),
            channels=decoder.count("audio_channels", default=1),
            sample_rate_hz=codec.count("sampling_rate"),
            ratios=codec.counts("upsampling_ratios"),
        )

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> int:
        """Frames per second, rounded up to an integer."""
        return math.ceil(self.sample_rate_hz / self.hop)


PUBLISHED: Final = {channels: ModelFigures(2048, 4 * channels, channels, 32_000, (8, 5, 4, 4)) for channels in (1, 2)}
"""The figures of the published models and of the built-in one, keyed by the number of channels."""


def find_figures(settings: Settings, name: str) -> ModelFigures | None:
    """Return the figures of a model.

    If the model is on this machine, they are read from its folder, and otherwise they are known for the published
    models. ``None`` if they are not known, or if the configuration is damaged: then the worker judges.
    """
    folder = find_model(settings, name)
    if folder is None:
        channels = get_published_channels(name)
        return None if channels is None else PUBLISHED[channels]
    path = folder / CONFIGURATION
    try:
        stat = path.stat()
    except OSError:
        return None
    return _read_remembered(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(MAX_REMEMBERED)
def _read_remembered(path: Path, _mtime_ns: int, _size: int) -> ModelFigures | None:
    """Read the figures once for each version of a file."""
    try:
        content = read_configuration(path)
        decoder, codec = (ConfigPart.open(path, content, name) for name in ("decoder", "audio_encoder"))
        return ModelFigures.read(decoder, codec)
    except JobFailedError:
        return None


def read_configuration(path: Path) -> dict[str, Any]:
    """Read the configuration file of a model.

    Raises
    ------
    JobFailedError
        The file is missing or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refuse(text("model-file-unreadable", path=str(path), error=str(error))) from error
    if not isinstance(content, dict):
        raise _refuse(text("model-file-unreadable", path=str(path), error="not a JSON object"))
    return content


@dataclass(frozen=True)
class ConfigPart:
    """One object of the configuration file, with the name by which errors refer to this object."""

    path: Path
    name: str
    values: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path, content: Mapping[str, Any], name: str) -> Self:
        """Return an object of the configuration; it must exist."""
        values = content.get(name)
        if not isinstance(values, dict):
            raise _refuse(text("model-part-missing", path=str(path), part=name))
        return cls(path, name, values)

    def invalid(self, key: str, reason: str, **values: Value) -> JobFailedError:
        """Make the error for a wrong value."""
        field = f"{self.name}.{key}" if self.name else key
        return _refuse(text(f"model-value-{reason}", path=str(self.path), field=field, **values))

    def require(self, key: str, wanted: object, *, default: object) -> None:
        """Refuse any other value than the wanted one."""
        value = self.values.get(key, default)
        if value != wanted:
            raise self.invalid(key, "unsupported", value=repr(value), wanted=repr(wanted))

    def number(self, key: str, default: float | None = None) -> float:
        """Read a positive number."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MAX_VALUE:
            raise self.invalid(key, "not-positive", value=repr(value), max_value=MAX_VALUE)
        return float(value)

    def count(self, key: str, default: int | None = None) -> int:
        """Read a positive integer."""
        value = self.number(key, default)
        if value != int(value):
            raise self.invalid(key, "not-integer", value=repr(value))
        return int(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Read true or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.invalid(key, "not-boolean", value=repr(value))
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        """Read a list of positive numbers."""
        values = self.values.get(key)
        if not isinstance(values, list) or not values:
            raise self.invalid(key, "not-numbers", value=repr(values))
        return tuple(ConfigPart(self.path, self.name, {key: value}).number(key) for value in values)

    def counts(self, key: str) -> tuple[int, ...]:
        """Read a list of positive integers."""
        values = self.numbers(key)
        if not all(value.is_integer() for value in values):
            raise self.invalid(key, "not-integer", value=repr(self.values[key]))
        return tuple(int(value) for value in values)


def _refuse(reason: Text) -> JobFailedError:
    return JobFailedError("model-invalid", reason)
