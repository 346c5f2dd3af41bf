"""The interface of a loaded model: requests and results, the same for every backend."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.texts import Text
from worker.engines.interface import ReportProgress
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.tokenizer import PromptTokenizer

Audio = NDArray[np.float32]
"""Shape (channels, samples), nominally between -1 and 1."""

Codes = NDArray[np.int16]
"""Shape (codebooks, frames), without delays; the codebooks of a stereo model alternate between left and right."""

Tokens = NDArray[np.int32]
"""Shape (codebooks, positions): the tokens that the decoder reads, with delays; position 0 has the start token."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: fields of `shared.kinds.musicgen.parameters.MusicgenParams`.

    ``top_k`` 0 and ``top_p`` 1 keep every token.
    """

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
        The seed of the random numbers with which the tokens of this sample are chosen.
    warnings
        What is unusual about the prompt, the clip, or the length.
    """

    prompt: str | None
    clip: Audio | None
    seed: int
    warnings: Sequence[Text] = ()


@dataclass(frozen=True)
class GenerationRequest:
    """The samples of a job.

    Each sample is generated as if it were alone: what else is in the job does not change its codes. transformers
    generates all samples of a job as one batch, and pads clips of different lengths with silence on the left.
    """

    samples: Sequence[SampleRequest]
    new_tokens: int
    sampling: Sampling


@dataclass(frozen=True)
class GeneratedSample:
    """The result for one sample. The clip is included."""

    codes: Codes
    audio: Audio


OnTokens = Callable[[Sequence[Tokens]], None]
"""Called while tokens are generated, with the tokens that each sample has so far: several times per second, or at each
step with MindNLP, whose steps take seconds."""


class MusicGenerator(Protocol):
    """A loaded model."""

    backend: str
    """Name of the backend that computes; the API's field ``engine`` shows it."""
    config: ModelConfig
    tokenizer: PromptTokenizer
    precision: str
    max_slots: int
    """How many decoder slots the model runs in one batch; 0 if jobs cannot share a batch."""

    def close(self) -> None:
        """Free the memory; the model must not be used after that."""

    def generate(
        self, request: GenerationRequest, report: ReportProgress, on_tokens: OnTokens, resumed: Sequence[Tokens] | None
    ) -> Iterator[GeneratedSample]:
        """Generate the samples of a job.

        Nothing is computed before the first sample is asked for. Then the tokens of all samples are generated, and each
        sample is decoded when it is asked for.

        Parameters
        ----------
        request
            What to generate.
        report
            Called in the stages ``compiling``, ``encoding``, ``generating`` (at each step) and ``decoding``.
        on_tokens
            Called with the tokens that each sample has so far, so that these can be stored for a later attempt.
        resumed
            The tokens with which ``on_tokens`` was last called in an earlier attempt at the same request. The
            generation continues after these tokens; with ``None`` it starts from the beginning.

        Returns
        -------
        An iterator over one result per sample, in the order of the request. It keeps no audio of earlier samples.

        Raises
        ------
        JobFailedError
            The model cannot generate what was requested, or it produced NaN or infinite values.
        JobStoppedError
            Passed on from ``report``.
        """
