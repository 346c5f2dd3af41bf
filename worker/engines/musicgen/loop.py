"""The decode loop: one for every backend. NumPy alone; the network is behind ``Decoder``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import JobFailedError
from worker.engines.musicgen.composer import Sampling, Tokens
from worker.engines.musicgen.decoder import IDLE, Decoder, TextStates
from worker.engines.musicgen.delay import TO_GENERATE
from worker.engines.musicgen.draws import draw_uniforms
from worker.engines.musicgen.sampling import Logits, choose_tokens, guide


class Track:
    """One sample while it is generated.

    Parameters
    ----------
    pattern
        Shape (codebooks, length), as ``delay.lay_out`` makes it.
    text
        What it is to sound like; ``None`` for unconditional generation.
    resumed
        Tokens that an earlier attempt chose; a beginning of the sequence.
    """

    def __init__(
        self,
        pattern: Tokens,
        text: TextStates | None,
        sampling: Sampling,
        seed: int,
        resumed: Tokens | None = None,
    ) -> None:
        self._pattern = pattern
        self._sampling = sampling
        self._seed = seed
        self.text = text
        self.tokens = pattern.copy()
        generated = np.flatnonzero((pattern == TO_GENERATE).any(axis=0))
        self.first = int(generated[0]) if len(generated) else pattern.shape[1]
        self.known = self.first
        if resumed is not None and resumed.shape[1] > self.known:
            self.known = resumed.shape[1]
            self.tokens[:, : self.known] = resumed

    @property
    def guided(self) -> bool:
        """Whether a second row runs beside it without the text; without text both would be the same."""
        return self.text is not None and self._sampling.guidance_scale > 1

    @property
    def position(self) -> int:
        """The last known position, which the decoder reads next."""
        return self.known - 1

    @property
    def length(self) -> int:
        """How many positions there will be."""
        return self.tokens.shape[1]

    @property
    def finished(self) -> bool:
        """Whether every position is known."""
        return self.known == self.length

    def extend(self, conditional: Logits, unconditional: Logits | None = None) -> None:
        """Choose the tokens of the next position.

        Raises
        ------
        JobFailedError
            The logits are not numbers.
        """
        logits = conditional
        if unconditional is not None:
            logits = guide(conditional, unconditional, self._sampling.guidance_scale)
        if not np.isfinite(logits).all():
            raise JobFailedError(
                "not-finite",
                "The model computes no numbers",
                f"At position {self.known} the model's logits are not finite: its weights are damaged, or too large "
                "for the precision. Choose another model, or precision float32.",
            )
        uniforms = draw_uniforms(self._seed, self.known, *logits.shape) if self._sampling.do_sample else None
        given = self._pattern[:, self.known]
        chosen = choose_tokens(logits, self._sampling, uniforms)
        self.tokens[:, self.known] = np.where(given == TO_GENERATE, chosen, given)
        self.known += 1


@dataclass(frozen=True)
class _Seat:
    """A track's rows: one, and another without the text where it is guided."""

    track: Track
    rows: tuple[int, ...]

    def read_known(self, decoder: Decoder, tell: Callable[[], None]) -> None:
        """Let the rows read all that is known but the last position, whose logits the first step asks for."""
        for row, text in zip(self.rows, (self.track.text, None), strict=False):
            decoder.admit(row, text)
            for start in range(0, self.track.position, decoder.chunk):
                tell()
                stop = min(start + decoder.chunk, self.track.position)
                decoder.feed(row, self.track.tokens[:, start:stop], start)

    def write_next(self, tokens: Tokens, positions: NDArray[np.int32]) -> None:
        """Write what the rows read next."""
        rows = list(self.rows)
        tokens[rows] = self.track.tokens[:, self.track.position]
        positions[rows] = IDLE if self.track.finished else self.track.position

    def extend(self, logits: NDArray[np.float32]) -> None:
        """Take the rows' logits."""
        if not self.track.finished:
            self.track.extend(*logits[list(self.rows)])


def count_rows(tracks: Sequence[Track]) -> int:
    """Count the decoder's rows that the tracks need."""
    return sum(2 if track.guided else 1 for track in tracks)


def generate(decoder: Decoder, tracks: Sequence[Track], tell: Callable[[], None]) -> None:
    """Generate every track to its end.

    Parameters
    ----------
    decoder
        With a row for each track, and a second for each guided one.
    tell
        Called before each step, and each chunk of what is known already; may raise.
    """
    seats: list[_Seat] = []
    for track in tracks:
        begin = sum(len(seat.rows) for seat in seats)
        seats.append(_Seat(track, tuple(range(begin, begin + count_rows([track])))))
    for seat in seats:
        if not seat.track.finished:  # an earlier attempt may have left it so
            seat.read_known(decoder, tell)
    tokens = np.zeros((decoder.rows, tracks[0].tokens.shape[0]), dtype=np.int32)
    positions = np.full(decoder.rows, IDLE, dtype=np.int32)
    while not all(track.finished for track in tracks):
        tell()
        for seat in seats:
            seat.write_next(tokens, positions)
        logits = decoder.step(tokens, positions)
        for seat in seats:
            seat.extend(logits)
