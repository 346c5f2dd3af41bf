"""The service's own MusicGen: text, codec and decoder, whatever computes them, around the decode loop."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shared.errors import JobFailedError
from shared.kinds.musicgen.catalogue import TOKENIZER
from worker.engines.interface import ReportProgress
from worker.engines.musicgen.decoding import delay
from worker.engines.musicgen.decoding.decoder import Decoder, TextStates
from worker.engines.musicgen.decoding.scheduler import BatchLimits, BatchScheduler
from worker.engines.musicgen.decoding.sequence import TokenSequence
from worker.engines.musicgen.model.configuration import DecoderConfig, ModelConfig, unusable_model
from worker.engines.musicgen.request import Audio, Codes, GeneratedSample, GenerationRequest, OnTokens, Tokens

POLL_INTERVAL_S: Final = 0.1
"""How often a sample that waits to be decoded asks whether its job goes on."""


class TextEncoder(Protocol):
    """Encodes prompts; several threads may use it."""

    def encode(self, ids: NDArray[np.int32]) -> TextStates:
        """Encode one prompt's tokens, shape (tokens,), the end token included."""


class Codec(Protocol):
    """Turns the audio of one channel into codes and back; several threads may use it.

    ``tell`` is called several times per second of work, and may raise.
    """

    def encode(self, audio: NDArray[np.float32], tell: Callable[[], None]) -> Codes:
        """Encode, shape (samples,) to (codebooks, frames)."""

    def decode(self, codes: Codes, tell: Callable[[], None]) -> NDArray[np.float32]:
        """Decode, shape (codebooks, frames) to (samples,)."""


@dataclass(frozen=True)
class BackendModel:
    """What computes, loaded."""

    text: TextEncoder
    codec: Codec
    decoder: Decoder
    max_slots: int
    """How many rows side by side pay."""
    close: Callable[[], None]
    """Gives the memory back."""


class MusicgenPipeline:
    """A loaded model; see `worker.engines.musicgen.request.Composer`.

    Parameters
    ----------
    folder
        The model's, in the Hugging Face layout.
    engine, precision
        What computes, and in which numbers.
    load
        Loads what computes.
    limits
        How much to decode side by side.
    """

    def __init__(
        self,
        folder: Path,
        engine: str,
        precision: str,
        load: Callable[[ModelConfig], BackendModel],
        limits: BatchLimits,
    ) -> None:
        self.engine = engine
        self.config = ModelConfig.read(folder)
        self.precision = precision
        self._tokenizer = open_tokenizer(folder)
        self._parts = load(self.config)
        self.max_slots = self._parts.max_slots if limits.max_slots is None else limits.max_slots
        self._batch = BatchScheduler(self._parts.decoder, replace(limits, max_slots=self.max_slots))
        self._decoding = threading.Lock()

    def close(self) -> None:
        """Give the memory back; see the protocol."""
        self._parts.close()

    def compose(
        self, order: GenerationRequest, report: ReportProgress, keep: OnTokens, resumed: Sequence[Tokens] | None
    ) -> list[GeneratedSample]:
        """Make the music; see the protocol."""
        clips = pad_clips(order)
        tracks = self._lay_tracks(order, clips, report, resumed)
        steps = tracks[0].length - tracks[0].first

        def tell() -> None:
            done = sum(track.known - track.first for track in tracks) // len(tracks)
            report(stage="generating", done=done, total=steps, unit="steps")

        def announce() -> None:
            report(stage="compiling", done=0, total=1, unit="graphs")

        def keep_known() -> None:
            keep([track.tokens[:, : track.known] for track in tracks])

        keep_known()
        self._batch.generate(tracks, tell, announce, keep_known)
        keep_known()
        return [self._finish(tracks, index, clips, report) for index in range(len(tracks))]

    def _lay_tracks(
        self,
        order: GenerationRequest,
        clips: "PaddedClips | None",
        report: ReportProgress,
        resumed: Sequence[Tokens] | None,
    ) -> list[TokenSequence]:
        config = self.config.decoder
        prompts = dict.fromkeys(sample.prompt for sample in order.samples)
        texts = {prompt: self._encode_text(prompt) for prompt in prompts}
        tracks: list[TokenSequence] = []
        for index, sample in enumerate(order.samples):
            tell = partial(report, stage="encoding", done=index, total=len(order.samples), unit="samples")
            tell()
            prompt = None if clips is None else self._encode_clip(clips.audio[index], tell)
            if index == 0:
                check_length(order, 0 if prompt is None else prompt.shape[1], config)
            known = None if resumed is None else resumed[index]
            pattern = delay.build_pattern(prompt, order.new_tokens, config)
            tracks.append(TokenSequence(pattern, texts[sample.prompt], order.sampling, sample.seed, known))
        return tracks

    def _encode_text(self, prompt: str | None) -> TextStates | None:
        return None if prompt is None else self._parts.text.encode(self._tokenize(prompt))

    def _tokenize(self, prompt: str) -> NDArray[np.int32]:
        return np.array(self._tokenizer.encode(prompt).ids, dtype=np.int32)

    def _encode_clip(self, audio: Audio, tell: Callable[[], None]) -> Codes:
        """Encode each channel; a stereo model's codebooks alternate, left and right."""
        return np.stack([self._parts.codec.encode(channel, tell) for channel in audio], axis=1).reshape(
            self.config.decoder.codebooks, -1
        )

    def _finish(
        self, tracks: Sequence[TokenSequence], index: int, clips: "PaddedClips | None", report: ReportProgress
    ) -> GeneratedSample:
        tell = partial(report, stage="decoding", done=index, total=len(tracks), unit="samples")
        tell()
        codes = delay.remove_delays(tracks[index].tokens, self.config.decoder)
        channels = self.config.decoder.channels
        with self._take_turn(tell):
            audio = np.stack([self._parts.codec.decode(codes[channel::channels], tell) for channel in range(channels)])
        padding = 0 if clips is None else clips.padding[index]
        return GeneratedSample(codes[:, padding // self.config.codec.hop :], audio[:, padding:])

    @contextmanager
    def _take_turn(self, tell: Callable[[], None]) -> Iterator[None]:
        """Wait until no other sample is decoded: side by side all would be as late as the last."""
        while not self._decoding.acquire(timeout=POLL_INTERVAL_S):
            tell()
        try:
            yield
        finally:
            self._decoding.release()


@dataclass(frozen=True)
class PaddedClips:
    """Clips of one length.

    Parameters
    ----------
    audio
        One per sample.
    padding
        How many samples of silence each begins with.
    """

    audio: list[Audio]
    padding: list[int]


def pad_clips(order: GenerationRequest) -> PaddedClips | None:
    """Pad the clips on the left to the longest, as transformers does with a batch."""
    clips = [sample.clip for sample in order.samples if sample.clip is not None]
    if not clips:
        return None
    longest = max(clip.shape[1] for clip in clips)
    padding = [longest - clip.shape[1] for clip in clips]
    return PaddedClips(
        [np.pad(clip, ((0, 0), (silence, 0))) for clip, silence in zip(clips, padding, strict=True)], padding
    )


def check_length(order: GenerationRequest, prompt_frames: int, config: DecoderConfig) -> None:
    """Refuse what is longer than the model's positions.

    Raises
    ------
    JobFailedError
        With how much would fit.
    """
    room = config.positions - 1 - prompt_frames
    if order.new_tokens > room:
        raise JobFailedError(
            "too-long",
            f"The model has {config.positions} positions; {1 + prompt_frames} go to the start and the audio prompts, "
            f"which leaves {max(room, 0)} for new tokens, and {order.new_tokens} were asked for. "
            "Make duration_s, max_new_tokens or the audio prompts shorter.",
        )


def open_tokenizer(folder: Path) -> Tokenizer:
    """Open a model's tokenizer.

    Raises
    ------
    JobFailedError
        There is none, or it is damaged.
    """
    path = folder / TOKENIZER
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower one
        raise unusable_model(f"{path} cannot be read ({error}); download the model again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
