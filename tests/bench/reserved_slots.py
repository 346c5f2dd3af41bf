"""Rows that outlast their samples: steps far inside a sequence are timed again without all before being read again."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.decoding.decoder import Decoder, OnCompile, TextStates, ignore_compiling
from worker.engines.musicgen.request import Tokens


class LastingRows:
    """A decoder whose rows are handed out again, with all that they have read, when they are dropped.

    It is for one text, and for sequences that have the same beginning.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.max_chunk = decoder.max_chunk
        self.on_compile: OnCompile = ignore_compiling
        self._resting: dict[bool, list[int]] = defaultdict(list)
        self._guided: dict[int, bool] = {}
        self._read: dict[int, int] = {}

    def count_bytes(self, length: int) -> int:
        """Count what a row takes."""
        return self._decoder.count_bytes(length)

    def admit(self, text: TextStates | None, length: int) -> int:
        """Start a row, or take one that rests."""
        resting = self._resting[text is not None]
        if resting:
            return resting.pop()
        row = self._decoder.admit(text, length)
        self._guided[row], self._read[row] = text is not None, 0
        return row

    def drop(self, row: int) -> None:
        """Let a row rest."""
        self._resting[self._guided[row]].append(row)

    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        """Let a row read what it has not read yet."""
        end = position + tokens.shape[1]
        if self._read[row] < end:
            self._decoder.feed(row, tokens, position)
            self._read[row] = end

    def step(self, rows: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> NDArray[np.float32]:
        """Let rows read one position each."""
        return self._decoder.step(rows, tokens, positions)
