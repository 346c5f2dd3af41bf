"""All that the music bench has measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.logits import Distance
from tests.bench.timing import Contender
from worker.engines.musicgen.model.configuration import ModelConfig

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Race:
    """Who took turns.

    Parameters
    ----------
    openvino
        Ours, by precision.
    mindspore
        Ours.
    peers
        transformers, by precision.
    mindnlp
        Measured alone, for a few steps.
    """

    openvino: Mapping[str, Contender]
    mindspore: Contender
    peers: Mapping[str, Contender]
    mindnlp: Contender

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """All of them."""
        return (*self.openvino.values(), self.mindspore, *self.peers.values(), self.mindnlp)


@dataclass(frozen=True)
class Findings:
    """All that was measured.

    Parameters
    ----------
    config
        The model's.
    bytes_per_s
        How fast the machine reads memory.
    text_tokens
        How long the prompt is.
    repeats
        How often everything in the race was measured.
    cold, second
        The first start of the fastest of ours, and one that finds kept graphs.
    reading
        Frames per second of known positions, by title.
    places
        As ``NativeBench.time_places`` tells them.
    profile
        As ``native_profile`` tells it.
    job
        As ``native_job`` tells it.
    long_jobs, short_jobs
        As ``native_memory`` tells them, one by one.
    full_size, fixtures
        How far each precision's logits are from float32, at full size and on average over the fixtures.
    """

    config: ModelConfig
    race: Race
    bytes_per_s: float
    text_tokens: int
    repeats: int
    cold: Figures
    second: Figures
    reading: Mapping[str, float]
    places: Figures
    profile: Figures
    job: Figures
    long_jobs: Sequence[Figures]
    short_jobs: Sequence[Figures]
    full_size: Mapping[str, Distance]
    fixtures: Mapping[str, Distance]
