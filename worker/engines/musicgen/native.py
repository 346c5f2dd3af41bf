"""MindSpore's own MusicGen: text, codec and decoder behind the decode loop."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shared.errors import JobFailedError
from shared.models import TOKENIZER
from worker.engines.contract import Report
from worker.engines.musicgen import delay, loop
from worker.engines.musicgen.composer import Audio, Codes, Keep, Order, Piece, Tokens
from worker.engines.musicgen.configuration import DecoderConfig, ModelConfig, refuse
from worker.engines.musicgen.decoder import TextStates
from worker.engines.musicgen.loop import Track
from worker.engines.musicgen.network.codec import Codec
from worker.engines.musicgen.network.layers import Target
from worker.engines.musicgen.network.rows import Compiled, NetworkDecoder
from worker.engines.musicgen.network.shapes import CAPACITIES, ROWS, round_up
from worker.engines.musicgen.network.text import TextEncoder
from worker.engines.musicgen.network.weights import DecoderWeights
from worker.engines.musicgen.weights import Weights


class NativeComposer:
    """A model loaded into MindSpore; see `worker.engines.musicgen.composer.Composer`.

    Parameters
    ----------
    folder
        The model's, in the Hugging Face layout.
    target
        Where it computes, and in which numbers.
    cache_bytes_most
        How much memory the rows of one batch may take; a job with more is generated in several.
    """

    engine = "mindspore"

    def __init__(self, folder: Path, target: Target, cache_bytes_most: int) -> None:
        self.config = ModelConfig.read(folder)
        self.precision = target.precision
        self._cache_bytes_most = cache_bytes_most
        weights = Weights.open(folder, self.config)
        self._tokenizer = open_tokenizer(folder)
        self._text = TextEncoder(self.config, weights, target)
        self._compiled = Compiled(DecoderWeights(self.config.decoder, weights, target))
        self._codec = Codec(self.config.codec, weights, target)

    def close(self) -> None:
        """Give the decoder's memory back; see the protocol."""
        self._compiled.weights.release()

    def compose(self, order: Order, report: Report, keep: Keep, resumed: Sequence[Tokens] | None) -> list[Piece]:
        """Make the music; see the protocol."""
        clips = pad_clips(order)
        tracks = self._lay_tracks(order, clips, report, resumed)
        groups = list(self._form_groups(tracks))
        total = sum(max(track.length - track.first for track in group) for group in groups)

        def tell() -> None:
            done = sum(max(track.known - track.first for track in group) for group in groups)
            report(stage="generating", done=done, total=total, unit="steps")
            keep([track.tokens[:, : track.known] for track in tracks])

        def announce(*, compiling: bool) -> None:
            if compiling:
                report(stage="compiling", done=0, total=1, unit="graphs")
            else:
                tell()

        for group in groups:
            texts = [len(track.text.states) for track in group if track.text is not None]
            decoder = NetworkDecoder(
                self._compiled,
                rows=loop.count_rows(group),
                length=max(track.length for track in group),
                text_tokens=max(texts, default=1),
                announce=announce,
            )
            loop.generate(decoder, group, tell)
        tell()
        return [self._finish(tracks, index, clips, report) for index in range(len(tracks))]

    def _lay_tracks(
        self, order: Order, clips: "PaddedClips | None", report: Report, resumed: Sequence[Tokens] | None
    ) -> list[Track]:
        config = self.config.decoder
        prompts = dict.fromkeys(sample.prompt for sample in order.samples)
        texts = {prompt: self._encode_text(prompt) for prompt in prompts}
        tracks: list[Track] = []
        for index, sample in enumerate(order.samples):
            tell = partial(report, stage="encoding", done=index, total=len(order.samples), unit="samples")
            tell()
            prompt = None if clips is None else self._encode_clip(clips.audio[index], tell)
            if index == 0:
                check_length(order, 0 if prompt is None else prompt.shape[1], config)
            known = None if resumed is None else resumed[index]
            pattern = delay.lay_out(prompt, order.new_tokens, config)
            tracks.append(Track(pattern, texts[sample.prompt], order.sampling, sample.seed, known))
        return tracks

    def _encode_text(self, prompt: str | None) -> TextStates | None:
        return None if prompt is None else self._text.encode(self._tokenize(prompt))

    def _tokenize(self, prompt: str) -> NDArray[np.int32]:
        return np.array(self._tokenizer.encode(prompt).ids, dtype=np.int32)

    def _encode_clip(self, audio: Audio, tell: Callable[[], None]) -> Codes:
        """Encode each channel; a stereo model's codebooks alternate, left and right."""
        return np.stack([self._codec.encode(channel, tell) for channel in audio], axis=1).reshape(
            self.config.decoder.codebooks, -1
        )

    def _form_groups(self, tracks: Sequence[Track]) -> Iterator[list[Track]]:
        """Divide the tracks into batches that fit the memory."""
        config = self.config.decoder
        itemsize = 4 if self.precision == "float32" else 2
        capacity = round_up(max(track.length for track in tracks), CAPACITIES)
        row_bytes = 2 * config.layers * capacity * config.hidden * itemsize
        rows_most = max(2, min(ROWS[-1], self._cache_bytes_most // row_bytes))
        group: list[Track] = []
        for track in tracks:
            if group and loop.count_rows([*group, track]) > rows_most:
                yield group
                group = []
            group.append(track)
        yield group

    def _finish(self, tracks: Sequence[Track], index: int, clips: "PaddedClips | None", report: Report) -> Piece:
        tell = partial(report, stage="decoding", done=index, total=len(tracks), unit="samples")
        tell()
        codes = delay.take_out(tracks[index].tokens, self.config.decoder)
        channels = self.config.decoder.channels
        audio = np.stack([self._codec.decode(codes[channel::channels], tell) for channel in range(channels)])
        padding = 0 if clips is None else clips.padding[index]
        return Piece(codes[:, padding // self.config.codec.hop :], audio[:, padding:])


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


def pad_clips(order: Order) -> PaddedClips | None:
    """Pad the clips on the left to the longest, as transformers does with a batch."""
    clips = [sample.clip for sample in order.samples if sample.clip is not None]
    if not clips:
        return None
    longest = max(clip.shape[1] for clip in clips)
    padding = [longest - clip.shape[1] for clip in clips]
    return PaddedClips(
        [np.pad(clip, ((0, 0), (silence, 0))) for clip, silence in zip(clips, padding, strict=True)], padding
    )


def check_length(order: Order, prompt_frames: int, config: DecoderConfig) -> None:
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
            "The music is longer than the model can make",
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
        raise refuse(f"{path} cannot be read ({error}); download the model again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
