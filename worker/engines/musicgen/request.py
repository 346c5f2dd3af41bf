"""What the engine asks of whatever makes the music: MindSpore's own model, or MindNLP's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.engines.interface import ReportProgress
from worker.engines.musicgen.model.configuration import ModelConfig

Audio = NDArray[np.float32]
"""Shape (channels, samples), nominally within -1 and 1."""

Codes = NDArray[np.int16]
"""Shape (codebooks, frames), delays taken out; a stereo model's codebooks alternate, left and right."""

Tokens = NDArray[np.int32]
"""Shape (codebooks, positions): what the decoder reads, delayed, the start token first."""


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
    """One piece of music to make.

    Parameters
    ----------
    prompt
        What it is to sound like; ``None`` for unconditional generation.
    clip
        What it is to continue, at the model's rate and with its channels.
    seed
        Of the numbers it is sampled with.
    """

    prompt: str | None
    clip: Audio | None
    seed: int


@dataclass(frozen=True)
class GenerationRequest:
    """The samples of a job.

    They are one batch to transformers, and so they are here: clips of different
    lengths are padded with silence on the left to the longest, and the padding
    is taken off what comes out.
    """

    samples: Sequence[SampleRequest]
    new_tokens: int
    sampling: Sampling


@dataclass(frozen=True)
class GeneratedSample:
    """What became of a sample; clips are part of it, padding is not."""

    codes: Codes
    audio: Audio


OnTokens = Callable[[Sequence[Tokens]], None]
"""Told now and then, and at least once per second of work, which tokens each sample has so far."""


class MusicGenerator(Protocol):
    """A loaded model."""

    engine: str
    config: ModelConfig
    precision: str
    max_slots: int
    """How many of the decoder's rows it runs side by side; 0 where jobs cannot share it."""

    def close(self) -> None:
        """Give the memory back; the model must not be used any more."""

    def compose(
        self, order: GenerationRequest, report: ReportProgress, keep: OnTokens, resumed: Sequence[Tokens] | None
    ) -> list[GeneratedSample]:
        """Make the music.

        Parameters
        ----------
        order
            What to make.
        report
            Told of the stages ``compiling``, ``encoding``, ``generating`` (each step) and ``decoding``.
        keep
            Told of the tokens, so that they outlast this process.
        resumed
            What ``keep`` was last told by an earlier attempt at the same order, which goes on from there.

        Returns
        -------
        One piece per sample, in their order.

        Raises
        ------
        JobFailedError
            The order asks what the model cannot do, or the model gives no numbers.
        JobStoppedError
            Passed on from ``report``.
        """
