"""A decoder without a model: its logits depend on the text of a slot and on all tokens that the slot has read."""

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
"""A function that is called within a method of the decoder, and that may raise an exception.

The argument is the number of calls of this method so far, including the present call.
"""


def compute_logits(text: TextStates | None, tokens: Tokens) -> Logits:
    """Compute logits from a text and all tokens so far."""
    random = np.random.default_rng([0 if text is None else int(text.states[0, 0]), *tokens.T.ravel()])
    return (2 * random.standard_normal((CONFIG.codebooks, CONFIG.vocabulary))).astype(np.float32)


class FakeDecoder:
    """A decoder whose slots store the tokens that they read, and check that no position is skipped or read twice.

    Each step overwrites the logits of the previous step, as `worker.engines.musicgen.decoding.decoder.Decoder` allows.

    Parameters
    ----------
    damage
        Called in each step with the number of the step, the slots and the logits; may change the logits.
    hooks
        For each method name, the function that is called within this method.
    """

    def __init__(
        self,
        max_chunk: int = 4,
        damage: Callable[[int, Sequence[int], Logits], None] = lambda *_: None,
        hooks: Mapping[str, Hook] | None = None,
    ) -> None:
        self.max_chunk = max_chunk
        self.on_compile: OnCompile = ignore_compiling
        self.calls: list[Call] = []
        self.threads: list[threading.Thread] = []
        self.slots: dict[int, TextStates | None] = {}
        self.peak_slots = 0
        self.admitted_lengths: list[int] = []
        self._damage = damage
        self._hooks = hooks or {}
        self._lengths: dict[int, int] = {}
        self._read: dict[int, Tokens] = {}
        self._logits = np.zeros((0, CONFIG.codebooks, CONFIG.vocabulary), dtype=np.float32)

    def count_bytes(self, length: int) -> int:
        return 10 * length

    def admit(self, text: TextStates | None, length: int) -> int:
        slot = len(self.list_calls("admit"))
        self._record("admit", slot)
        self.slots[slot] = text
        self.admitted_lengths.append(length)
        self.peak_slots = max(self.peak_slots, len(self.slots))
        self._lengths[slot] = length
        self._read[slot] = np.zeros((CONFIG.codebooks, 0), dtype=np.int32)
        return slot

    def drop(self, slot: int) -> None:
        for values in (self.slots, self._lengths, self._read):
            del values[slot]
        self._record("drop", slot)

    def feed(self, slot: int, tokens: Tokens, position: int) -> None:
        assert 1 <= tokens.shape[1] <= self.max_chunk
        self._record("feed", slot, position, tokens.shape[1])
        self._append(slot, tokens, position)

    def step(self, slots: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> Logits:
        assert tokens.shape == (len(slots), CONFIG.codebooks)
        assert positions.shape == (len(slots),)
        assert tokens.dtype == positions.dtype == np.int32
        assert len(set(slots)) == len(slots) > 0
        self._record("step", *(number for pair in zip(slots, positions.tolist(), strict=True) for number in pair))
        self._logits[:] = np.nan  # the logits of the previous step are no longer valid
        for slot, read, position in zip(slots, tokens, positions, strict=True):
            self._append(slot, read[:, None], position)
        self._logits = np.stack([compute_logits(self.slots[slot], self._read[slot]) for slot in slots])
        self._damage(len(self.list_calls("step")), slots, self._logits)
        return self._logits

    def list_calls(self, method: str) -> list[Call]:
        """List the arguments of each call of a method; for ``step``: slot, position, slot, position and so on."""
        return [call[1:] for call in self.calls if call[0] == method]

    def list_positions(self) -> list[list[Any]]:
        """List the positions of the slots in each step."""
        return [list(step[1::2]) for step in self.list_calls("step")]

    def _record(self, method: str, *arguments: int) -> None:
        thread = threading.current_thread()
        if thread not in self.threads:
            assert thread.name == "decode"
            assert self.slots == {}  # the previous decoding thread has dropped all of its slots
            self.threads.append(thread)
        assert thread is self.threads[-1]
        self.calls.append((method, *arguments))
        if method in self._hooks:
            self._hooks[method](len(self.list_calls(method)))

    def _append(self, slot: int, tokens: Tokens, position: int) -> None:
        assert slot in self.slots
        assert position == self._read[slot].shape[1]
        assert position + tokens.shape[1] <= self._lengths[slot]
        assert ((tokens >= 0) & (tokens <= CONFIG.start)).all()
        self._read[slot] = np.concatenate([self._read[slot], tokens], axis=1)
