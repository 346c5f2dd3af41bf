"""The results of the music benchmark."""

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
        The service's implementation in OpenVINO, one for each precision.
    mindspore
        The service's implementation in MindSpore.
    transformers
        The baseline, one implementation for each precision.
    mindnlp
        MindNLP, which is measured separately, for a few steps only.
    """

    openvino: Mapping[str, Implementation]
    mindspore: Implementation
    transformers: Mapping[str, Implementation]
    mindnlp: Implementation

    @property
    def all(self) -> tuple[Implementation, ...]:
        """All implementations."""
        return (*self.openvino.values(), self.mindspore, *self.transformers.values(), self.mindnlp)


@dataclass(frozen=True)
class Results:
    """All results of the music benchmark.

    Parameters
    ----------
    config
        The configuration of the model.
    unsupported
        The precisions that OpenVINO does not offer on this processor, so that they were not measured.
    bytes_per_s
        How fast the machine reads memory.
    text_tokens
        The number of tokens of the prompt.
    repeats
        How often the measurements of all implementations were repeated.
    first_start, second_start
        The figures of two starts of OpenVINO in the default precision: of the first start, which finds no compiled
        graphs on disk, and of the second start, which finds them there.
    prefill
        For each implementation, given by its title, the number of known positions that are read per second.
    full_caches
        The figures that ``OwnBench.time_full_caches`` returned.
    profile
        The figures that ``own_profile`` printed.
    job
        The figures that ``own_job`` printed.
    long_jobs, short_jobs
        The figures that ``own_memory`` printed for each job.
    full_size, references
        For each precision except float32, how much its logits differ from those of float32. ``full_size`` has the
        difference for the model of full size, ``references`` the average over the cases of ``tests/references``.
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
