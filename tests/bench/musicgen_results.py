"""Everything that the music benchmark measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.implementation import Implementation
from tests.bench.logits import LogitDifference
from worker.engines.musicgen.model.configuration import ModelConfig

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Implementations:
    """The implementations that were compared.

    Parameters
    ----------
    openvino
        The service's own, by precision.
    mindspore
        The service's own.
    transformers
        The baseline, by precision.
    mindnlp
        Measured alone, for a few steps.
    """

    openvino: Mapping[str, Implementation]
    mindspore: Implementation
    transformers: Mapping[str, Implementation]
    mindnlp: Implementation

    @property
    def all(self) -> tuple[Implementation, ...]:
        """All of them."""
        return (*self.openvino.values(), self.mindspore, *self.transformers.values(), self.mindnlp)


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Parameters
    ----------
    config
        The model's.
    unsupported
        The precisions that OpenVINO does not offer on this processor, so that they were not measured.
    bytes_per_s
        How fast the machine reads memory.
    text_tokens
        How long the prompt is.
    repeats
        How often the measurements that take turns were repeated.
    first_start, second_start
        The start of OpenVINO in the default precision without compiled graphs on disk, and with them.
    prefill
        Known positions that are read per second, by the title of the implementation.
    full_caches
        What ``OwnBench.time_full_caches`` returns.
    profile
        What ``own_profile`` prints.
    job
        What ``own_job`` prints.
    long_jobs, short_jobs
        What ``own_memory`` prints, job by job.
    full_size, references
        How much the logits of each precision differ from float32: with the full-size model, and on average over the
        cases of ``tests/references``.
    """

    config: ModelConfig
    implementations: Implementations
    unsupported: Sequence[str]
    bytes_per_s: float
    text_tokens: int
    repeats: int
    first_start: Figures
    second_start: Figures
    prefill: Mapping[str, float]
    full_caches: Figures
    profile: Figures
    job: Figures
    long_jobs: Sequence[Figures]
    short_jobs: Sequence[Figures]
    full_size: Mapping[str, LogitDifference]
    references: Mapping[str, LogitDifference]
