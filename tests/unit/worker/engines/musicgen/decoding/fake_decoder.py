"""A decoder without a network: what it answers follows from a row's text and all that the row has read."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.references.musicgen_cases import TINY
from tests.unit.worker.engines.musicgen.model_shapes import shape_decoder
from worker.engines.musicgen.decoding.decoder import OnCompile, TextStates, ignore_compiling
from worker.engines.musicgen.request import Tokens

CONFIG = shape_decoder(replace(TINY, codebook_size=40))

Logits = NDArray[np.float32]
Call = tuple[str | int, ...]
Hook = Callable[[int], None]
"""Called with how many calls of a kind there have been, this one included; may raise."""


def compute(text: TextStates | None, tokens: Tokens) -> Logits:
    """Make logits of a text and all the tokens so far."""
    random = np.random.default_rng([0 if text is None else int(text.states[0, 0]), *tokens.T.ravel()])
    return (2 * random.standard_normal((CONFIG.codebooks, CONFIG.vocabulary))).astype(np.float32)


class FakeDecoder:
    """Rows that remember what they read, and check that it comes in order; what they answer is overwritten.

    Parameters
    ----------
    hooks
        One for each kind of call that a test wants to meddle with.
    """

    def __init__(
        self,
        chunk: int = 4,
        damage: Callable[[int, Sequence[int], Logits], None] = lambda *_: None,
        hooks: Mapping[str, Hook] | None = None,
    ) -> None:
        self.chunk = chunk
        self.announce: OnCompile = ignore_compiling
        self.calls: list[Call] = []
        self.threads: list[threading.Thread] = []
        self.rows: dict[int, TextStates | None] = {}
        self.max_slots = 0
        self.admitted: list[int] = []
        self._damage = damage
        self._hooks = hooks or {}
        self._lengths: dict[int, int] = {}
        self._read: dict[int, Tokens] = {}
        self._logits = np.zeros((0, CONFIG.codebooks, CONFIG.vocabulary), dtype=np.float32)

    def count_bytes(self, length: int) -> int:
        return 10 * length

    def admit(self, text: TextStates | None, length: int) -> int:
        row = len(self.recall("admit"))
        self._note("admit", row)
        self.rows[row] = text
        self.admitted.append(length)
        self.max_slots = max(self.max_slots, len(self.rows))
        self._lengths[row] = length
        self._read[row] = np.zeros((CONFIG.codebooks, 0), dtype=np.int32)
        return row

    def drop(self, row: int) -> None:
        for held in (self.rows, self._lengths, self._read):
            del held[row]
        self._note("drop", row)

    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        assert 1 <= tokens.shape[1] <= self.chunk
        self._note("feed", row, position, tokens.shape[1])
        self._take(row, tokens, position)

    def step(self, rows: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> Logits:
        assert tokens.shape == (len(rows), CONFIG.codebooks)
        assert positions.shape == (len(rows),)
        assert tokens.dtype == positions.dtype == np.int32
        assert len(set(rows)) == len(rows) > 0
        self._note("step", *(place for pair in zip(rows, positions.tolist(), strict=True) for place in pair))
        self._logits[:] = np.nan  # what it gave before is valid no more
        for row, read, position in zip(rows, tokens, positions, strict=True):
            self._take(row, read[:, None], position)
        self._logits = np.stack([compute(self.rows[row], self._read[row]) for row in rows])
        self._damage(len(self.recall("step")), rows, self._logits)
        return self._logits

    def recall(self, kind: str) -> list[Call]:
        return [call[1:] for call in self.calls if call[0] == kind]

    def list_positions(self) -> list[list[Any]]:
        """List the positions of each step's rows."""
        return [list(step[1::2]) for step in self.recall("step")]

    def _note(self, kind: str, *facts: int) -> None:
        thread = threading.current_thread()
        if thread not in self.threads:
            assert thread.name == "decode"
            assert self.rows == {}  # whoever used it before is through
            self.threads.append(thread)
        assert thread is self.threads[-1]
        self.calls.append((kind, *facts))
        if kind in self._hooks:
            self._hooks[kind](len(self.recall(kind)))

    def _take(self, row: int, tokens: Tokens, position: int) -> None:
        assert row in self.rows
        assert position == self._read[row].shape[1]
        assert position + tokens.shape[1] <= self._lengths[row]
        assert ((tokens >= 0) & (tokens <= CONFIG.start)).all()
        self._read[row] = np.concatenate([self._read[row], tokens], axis=1)
