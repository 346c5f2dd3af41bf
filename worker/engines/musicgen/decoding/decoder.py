"""The interface between the decode loop and a backend: a decoder with slots, which returns logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.request import Tokens


@dataclass(frozen=True)
class TextStates:
    """The encoded prompt: float32, shape (tokens, hidden), projected to the decoder's hidden size."""

    states: NDArray[np.float32]


class OnCompile(Protocol):
    """Called before something is compiled, which takes seconds, and again when that is done."""

    def __call__(self, *, compiling: bool) -> None:
        """Take note."""


def ignore_compiling(*, compiling: bool) -> None:
    """Do nothing: for decoders that no job waits for."""


class Decoder(Protocol):
    """A decoder of several sequences in one batch, each at a position of its own.

    A slot is one row of the batch, with its cache of keys and values. Only one
    thread at a time may use the decoder.
    """

    max_chunk: int
    """How many positions one call of ``feed`` takes at most."""
    on_compile: OnCompile

    def count_bytes(self, length: int) -> int:
        """Count the memory that a slot for so many positions takes until it is dropped."""

    def admit(self, text: TextStates | None, length: int) -> int:
        """Occupy a slot.

        Parameters
        ----------
        text
            What the music should sound like; ``None`` for unconditional generation.
        length
            How many positions the sequence will have at most.

        Returns
        -------
        The number of the slot, valid until it is dropped.
        """

    def drop(self, slot: int) -> None:
        """Free a slot and its memory."""

    def feed(self, slot: int, tokens: Tokens, position: int) -> None:
        """Read tokens that are known already into a slot's cache (prefill), without computing logits.

        Parameters
        ----------
        tokens
            Shape (codebooks, n), n at most ``max_chunk``.
        position
            Of the first of them.
        """

    def step(
        self, slots: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Read one position in each of the given slots; the other slots stay as they are.

        Parameters
        ----------
        tokens
            Shape (slots, codebooks).
        positions
            Shape (slots,).

        Returns
        -------
        The logits of the position that follows: float32, shape (slots, codebooks, vocabulary), valid until the
        next step.
        """
