"""The seam between the decode loop and what computes: a decoder of some rows, fed with tokens, giving logits."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.composer import Tokens

IDLE: Final = -1


@dataclass(frozen=True)
class TextStates:
    """What the text encoder makes of one prompt: float32, shape (tokens, hidden), projected to the decoder's size."""

    states: NDArray[np.float32]


class Decoder(Protocol):
    """Rows that are decoded side by side, each at a position of its own."""

    rows: int
    chunk: int
    """How many positions ``feed`` takes at most."""

    def admit(self, row: int, text: TextStates | None) -> None:
        """Start a row anew; without text it is unconditional."""

    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        """Let a row read what is known already.

        Parameters
        ----------
        tokens
            Shape (codebooks, n), n at most ``chunk``.
        position
            Of the first of them.
        """

    def step(self, tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> NDArray[np.float32]:
        """Let every row read one position.

        Parameters
        ----------
        tokens
            Shape (rows, codebooks).
        positions
            Shape (rows,); ``IDLE`` for a row that has nothing to read.

        Returns
        -------
        The logits of the position that follows: float32, shape (rows, codebooks, vocabulary), valid until the
        next step; an idle row's have no meaning.
        """
