"""The interface between the decode loop and a backend: a decoder with slots, which returns logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.request import Tokens


@dataclass(frozen=True)
class TextStates:
    """The encoded prompt: float32, shape (tokens, hidden), projected to the hidden size of the decoder."""

    states: NDArray[np.float32]


class OnCompile(Protocol):
    """Called before each compilation of the decoder, and called again after it. A compilation takes seconds."""

    def __call__(self, *, compiling: bool) -> None:
        """Handle the start (``compiling`` is true) or the end (``compiling`` is false) of a compilation."""


def ignore_compiling(*, compiling: bool) -> None:
    """Do nothing: the ``on_compile`` of a decoder for which no job waits."""


class Decoder(Protocol):
    """Decodes several sequences in one batch; each sequence can be at a different position.

    A slot is one row of the batch, with its cache of keys and values. Only one
    thread at a time may use the decoder.
    """

    max_chunk: int
    """Maximum number of positions in one call of ``feed``."""
    on_compile: OnCompile

    def count_bytes(self, length: int) -> int:
        """Count the bytes of memory that a slot for ``length`` positions takes until the slot is dropped."""

    def admit(self, text: TextStates | None, length: int) -> int:
        """Occupy a slot.

        Parameters
        ----------
        text
            What the music should sound like; ``None`` for unconditional generation.
        length
            Maximum number of positions that the sequence will have.

        Returns
        -------
        The number of the slot, valid until the slot is dropped.
        """

    def drop(self, slot: int) -> None:
        """Free a slot and its memory."""

    def feed(self, slot: int, tokens: Tokens, position: int) -> None:
        """Read tokens that are already known into the cache of a slot (prefill), without computing logits.

        Parameters
        ----------
        tokens
            Shape (codebooks, n), where n is at most ``max_chunk``.
        position
            The position of the first of these tokens in the sequence.
        """

    def step(
        self, slots: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Read the tokens of one position in each of the given slots; the other slots are not changed.

        Parameters
        ----------
        tokens
            The tokens that each slot reads: shape (slots, codebooks).
        positions
            The position of these tokens in each slot: shape (slots,).

        Returns
        -------
        The logits of the next position in each slot: float32, shape (slots, codebooks, vocabulary). The array is valid
        until the next call of ``step``.
        """
