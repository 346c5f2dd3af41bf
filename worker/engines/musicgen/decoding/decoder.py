"""The seam between the decode loop and what computes: a decoder of rows that come and go, giving logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.request import Tokens


@dataclass(frozen=True)
class TextStates:
    """What the text encoder makes of one prompt: float32, shape (tokens, hidden), projected to the decoder's size."""

    states: NDArray[np.float32]


class OnCompile(Protocol):
    """Told when something is compiled first, which takes seconds, and when that is over."""

    def __call__(self, *, compiling: bool) -> None:
        """Take note."""


def ignore_compiling(*, compiling: bool) -> None:
    """Take no notice: for decoders that nobody waits for."""


class Decoder(Protocol):
    """Rows that are decoded side by side, each at a position of its own.

    One thread at a time may use it.
    """

    chunk: int
    """How many positions ``feed`` takes at most."""
    announce: OnCompile

    def count_bytes(self, length: int) -> int:
        """Count the memory that a row of so many positions takes, until it is dropped."""

    def admit(self, text: TextStates | None, length: int) -> int:
        """Start a row.

        Parameters
        ----------
        text
            What it is to sound like; without, it is unconditional.
        length
            How many positions it will have at most.

        Returns
        -------
        The number under which it is known until it is dropped.
        """

    def drop(self, row: int) -> None:
        """End a row, and take its memory for others."""

    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        """Let a row read what is known already.

        Parameters
        ----------
        tokens
            Shape (codebooks, n), n at most ``chunk``.
        position
            Of the first of them.
        """

    def step(self, rows: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> NDArray[np.float32]:
        """Let rows read one position each; the others wait.

        Parameters
        ----------
        tokens
            Shape (rows, codebooks).
        positions
            Shape (rows,).

        Returns
        -------
        The logits of the position that follows: float32, shape (rows, codebooks, vocabulary), valid until the
        next step.
        """
