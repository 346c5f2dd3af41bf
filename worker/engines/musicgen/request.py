"""What is asked of a loaded model, and what it returns: the same for every backend."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.engines.interface import ReportProgress
from worker.engines.musicgen.model.configuration import ModelConfig

Audio = NDArray[np.float32]
"""Shape (channels, samples), nominally between -1 and 1."""

Codes = NDArray[np.int16]
"""Shape (codebooks, frames), without delays; the codebooks of a stereo model alternate between left and right."""

Tokens = NDArray[np.int32]
"""Shape (codebooks, positions): what the decoder reads, with delays, the start token first."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; see ``shared.kinds.musicgen.parameters``. ``top_k`` 0 and ``top_p`` 1 keep every token."""

    do_sample: bool
    guidance_scale: float
    temperature: float
    top_k: int
    top_p: float


@dataclass(frozen=True)
class SampleRequest:
    """One sample to generate.

    Parameters
    ----------
    prompt
        What the music should sound like; ``None`` for unconditional generation.
    clip
        The audio that the music continues, at the model's sampling rate and with its channels.
    seed
        Of the random numbers with which its tokens are sampled.
    """

    prompt: str | None
    clip: Audio | None
    seed: int


@dataclass(frozen=True)
class GenerationRequest:
    """The samples of a job.

    transformers generates them as one batch, and the results here are the same:
    clips of different lengths are padded with silence on the left to the
    longest, and the padding is removed from the results.
    """

    samples: Sequence[SampleRequest]
    new_tokens: int
    sampling: Sampling


@dataclass(frozen=True)
class GeneratedSample:
    """The result for one sample. It includes the clip, but not the padding."""

    codes: Codes
    audio: Audio


OnTokens = Callable[[Sequence[Tokens]], None]
"""Called at least once per second of work, with the tokens that each sample has so far."""


class MusicGenerator(Protocol):
    """A loaded model."""

    backend: str
    """Name of the backend that computes; the API's field ``engine`` shows it."""
    config: ModelConfig
    precision: str
    max_slots: int
    """How many decoder slots it runs in one batch; 0 if jobs cannot share a batch."""

    def close(self) -> None:
        """Free the memory; the model must not be used after that."""

    def generate(
        self, request: GenerationRequest, report: ReportProgress, on_tokens: OnTokens, resumed: Sequence[Tokens] | None
    ) -> list[GeneratedSample]:
        """Generate the samples of a job.

        Parameters
        ----------
        request
            What to generate.
        report
            Called in the stages ``compiling``, ``encoding``, ``generating`` (at each step) and ``decoding``.
        on_tokens
            Called with the tokens so far, so that they can be stored for a later attempt.
        resumed
            The last tokens that ``on_tokens`` was called with in an earlier attempt at the same request. The
            generation continues after them.

        Returns
        -------
        One result per sample, in the order of the request.

        Raises
        ------
        JobFailedError
            The model cannot do what the request asks for, or it produced NaN or infinite values.
        JobStoppedError
            Raised by ``report``.
        """
