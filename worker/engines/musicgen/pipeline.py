"""MusicGen as one pipeline, the same for every backend: prompt -> text states -> tokens -> codes -> audio."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import JobFailedError
from shared.kinds.musicgen.lengths import count_clip_frames
from shared.texts import text
from worker.engines.interface import ReportProgress
from worker.engines.musicgen.decoding import delay
from worker.engines.musicgen.decoding.decoder import Decoder, TextStates
from worker.engines.musicgen.decoding.scheduler import BatchLimits, BatchScheduler
from worker.engines.musicgen.decoding.sequence import TokenSequence
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.tokenizer import PromptTokenizer
from worker.engines.musicgen.request import Audio, Codes, GeneratedSample, GenerationRequest, OnTokens, Tokens

POLL_INTERVAL_S: Final = 0.1
"""How often a job that waits for the codec checks whether it must stop."""

OnProgress = Callable[[], None]
"""Called several times per second during the work; it may raise an exception to stop the work."""


class TextEncoder(Protocol):
    """Encodes prompts; several threads may use it."""

    def encode(self, ids: NDArray[np.int32]) -> TextStates:
        """Encode the tokens of one prompt: shape (tokens,), including the end token."""


class Codec(Protocol):
    """Encodes the audio of one channel as codes, and decodes codes to audio; several threads may use it."""

    def encode(self, audio: NDArray[np.float32], on_progress: OnProgress) -> Codes:
        """Encode audio of shape (samples,) as codes of shape (codebooks, frames)."""

    def decode(self, codes: Codes, on_progress: OnProgress) -> NDArray[np.float32]:
        """Decode codes of shape (codebooks, frames) to audio of shape (samples,)."""


@dataclass(frozen=True)
class BackendModel:
    """The loaded parts of a model, which a backend computes."""

    text: TextEncoder
    codec: Codec
    decoder: Decoder
    max_slots: int
    """How many slots of the decoder are worth running in one batch."""
    close: Callable[[], None]
    """Frees the memory of the parts."""


class MusicgenPipeline:
    """A loaded model; implements `worker.engines.musicgen.request.MusicGenerator`.

    Parameters
    ----------
    folder
        The folder of the model, in the Hugging Face layout.
    backend
        Name of the backend that computes.
    precision
        The precision in which the backend computes.
    load
        Loads the parts of the model that the backend computes.
    limits
        How much to decode in one batch. If ``max_slots`` is ``None``, ``max_slots`` of the `BackendModel` is used.
    """

    def __init__(
        self,
        folder: Path,
        backend: str,
        precision: str,
        load: Callable[[ModelConfig], BackendModel],
        limits: BatchLimits,
    ) -> None:
        self.backend = backend
        self.config = ModelConfig.read(folder)
        self.precision = precision
        self.tokenizer = PromptTokenizer(folder)
        self.model = load(self.config)
        self.max_slots = self.model.max_slots if limits.max_slots is None else limits.max_slots
        self.scheduler = BatchScheduler(self.model.decoder, replace(limits, max_slots=self.max_slots))
        self._codec_lock = threading.Lock()

    def close(self) -> None:
        """Free the memory; the model must not be used after that."""
        self.model.close()

    def generate(
        self, request: GenerationRequest, report: ReportProgress, on_tokens: OnTokens, resumed: Sequence[Tokens] | None
    ) -> Iterator[GeneratedSample]:
        """Generate the samples of a job, as described in `request.MusicGenerator.generate`."""
        sequences = self._build_sequences(request, report, resumed)
        steps = sequences[0].length - sequences[0].given_length

        def report_step() -> None:
            generated = sum(sequence.known_length - sequence.given_length for sequence in sequences)
            report(stage="generating", done=generated // len(sequences), total=steps, unit="steps")

        def report_compiling() -> None:
            report(stage="compiling", done=0, total=1, unit="graphs")

        def pass_tokens() -> None:
            on_tokens([sequence.tokens[:, : sequence.known_length] for sequence in sequences])

        pass_tokens()
        self.scheduler.generate(sequences, report_step, report_compiling, pass_tokens)
        pass_tokens()
        for index in range(len(sequences)):
            yield self._decode_sample(sequences, index, report)

    def encode_text(self, prompt: str | None) -> TextStates | None:
        """Encode a prompt; return ``None`` if there is no prompt (unconditional generation)."""
        return None if prompt is None else self.model.text.encode(self.tokenizer.encode(prompt))

    def encode_clip(self, audio: Audio, on_progress: OnProgress) -> Codes:
        """Encode each channel of a clip; the codebooks of a stereo model alternate between left and right."""
        channels = [self.model.codec.encode(channel, on_progress) for channel in audio]
        return np.stack(channels, axis=1).reshape(self.config.decoder.codebooks, -1)

    def _build_sequences(
        self, request: GenerationRequest, report: ReportProgress, resumed: Sequence[Tokens] | None
    ) -> list[TokenSequence]:
        check_length(request, self.config)
        prompts = dict.fromkeys(sample.prompt for sample in request.samples)
        texts = {prompt: self.encode_text(prompt) for prompt in prompts}
        codes: dict[int, Codes] = {}
        sequences: list[TokenSequence] = []
        for index, sample in enumerate(request.samples):
            on_progress = partial(report, stage="encoding", done=index, total=len(request.samples), unit="samples")
            on_progress()
            clip: Codes | None = None
            if sample.clip is not None:
                # Samples of one prompt continue the same clip, which is encoded once.
                if id(sample.clip) not in codes:
                    codes[id(sample.clip)] = self.encode_clip(sample.clip, on_progress)
                clip = codes[id(sample.clip)]
            known = None if resumed is None else resumed[index]
            pattern = delay.build_pattern(clip, request.new_tokens, self.config.decoder)
            sequences.append(TokenSequence(pattern, texts[sample.prompt], request.sampling, sample.seed, known))
        return sequences

    def _decode_sample(self, sequences: Sequence[TokenSequence], index: int, report: ReportProgress) -> GeneratedSample:
        on_progress = partial(report, stage="decoding", done=index, total=len(sequences), unit="samples")
        on_progress()
        codes = delay.remove_delays(sequences[index].tokens, self.config.decoder)
        channels = self.config.decoder.channels
        with self._lock_codec(on_progress):
            audio = np.stack(
                [self.model.codec.decode(codes[channel::channels], on_progress) for channel in range(channels)]
            )
        return GeneratedSample(codes, audio)

    @contextmanager
    def _lock_codec(self, on_progress: OnProgress) -> Iterator[None]:
        """Wait until no other sample is being decoded, then decode.

        If several samples were decoded at the same time, all of them would finish as late as the last one does
        when they are decoded one after another.
        """
        while not self._codec_lock.acquire(timeout=POLL_INTERVAL_S):
            on_progress()
        try:
            yield
        finally:
            self._codec_lock.release()


def check_length(request: GenerationRequest, config: ModelConfig) -> None:
    """Refuse a request for more positions than the model has.

    Raises
    ------
    JobFailedError
        A sample is too long; the error says how many new tokens would fit.
    """
    longest = max((sample.clip.shape[1] for sample in request.samples if sample.clip is not None), default=0)
    used = 1 + count_clip_frames(longest, config.figures)
    free = config.decoder.positions - used
    if request.new_tokens > free:
        raise JobFailedError(
            "too-long",
            text(
                "music-too-long",
                positions=config.decoder.positions,
                used=used,
                free=max(free, 0),
                new_tokens=request.new_tokens,
            ),
        )
