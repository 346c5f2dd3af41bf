"""A decoder whose slots keep their caches between sequences, so that late steps can be timed repeatedly.

With another decoder, all positions before the timed steps would be read again in each repeat.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.decoding.decoder import Decoder, OnCompile, TextStates, ignore_compiling
from worker.engines.musicgen.request import Tokens


class ReservedSlotsDecoder:
    """A decoder that reuses a dropped slot together with the positions that the slot has read.

    All sequences must have the same text and the same first tokens. This class implements
    `worker.engines.musicgen.decoding.decoder.Decoder`.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.max_chunk = decoder.max_chunk
        self.on_compile: OnCompile = ignore_compiling
        self._dropped: dict[bool, list[int]] = defaultdict(list)
        """The dropped slots: those with the text (key ``True``), and those without a text (key ``False``)."""
        self._has_text: dict[int, bool] = {}
        self._read: dict[int, int] = {}
        """For each slot, the number of positions that ``feed`` has read into it."""

    def count_bytes(self, length: int) -> int:
        """Count the bytes of memory that a slot for ``length`` positions takes."""
        return self._decoder.count_bytes(length)

    def admit(self, text: TextStates | None, length: int) -> int:
        """Reuse a dropped slot, or occupy a new slot if none can be reused."""
        dropped = self._dropped[text is not None]
        if dropped:
            return dropped.pop()
        slot = self._decoder.admit(text, length)
        self._has_text[slot], self._read[slot] = text is not None, 0
        return slot

    def drop(self, slot: int) -> None:
        """Keep a slot for the next sequence."""
        self._dropped[self._has_text[slot]].append(slot)

    def feed(self, slot: int, tokens: Tokens, position: int) -> None:
        """Read known tokens, unless the slot has read them already."""
        end = position + tokens.shape[1]
        if self._read[slot] < end:
            self._decoder.feed(slot, tokens, position)
            self._read[slot] = end

    def step(
        self, slots: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Read the tokens of one position in each of the slots; return the logits of the next position."""
        return self._decoder.step(slots, tokens, positions)
