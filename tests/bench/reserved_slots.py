"""A decoder whose slots keep their caches between sequences, so that late steps can be timed repeatedly.

Otherwise all positions before those steps would be read again in each repeat.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.decoding.decoder import Decoder, OnCompile, TextStates, ignore_compiling
from worker.engines.musicgen.request import Tokens


class ReservedSlotsDecoder:
    """A decoder that reuses a slot after it was dropped, with everything that it has read.

    It is for sequences with the same text and the same beginning.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.max_chunk = decoder.max_chunk
        self.on_compile: OnCompile = ignore_compiling
        self._dropped: dict[bool, list[int]] = defaultdict(list)
        """The slots that can be reused, by whether they have the text."""
        self._has_text: dict[int, bool] = {}
        self._read: dict[int, int] = {}
        """How many positions ``feed`` has read into each slot."""

    def count_bytes(self, length: int) -> int:
        """Count the memory of a slot; see the protocol."""
        return self._decoder.count_bytes(length)

    def admit(self, text: TextStates | None, length: int) -> int:
        """Reuse a dropped slot, or occupy a new one."""
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
        """Read one position per slot; see the protocol."""
        return self._decoder.step(slots, tokens, positions)
