"""What an attempt leaves behind for the next, should its worker be lost: the seed, and the tokens so far."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from worker.engines.interface import Checkpoint
from worker.engines.musicgen.request import Tokens

CHECKPOINT_INTERVAL_S: Final = 3.0


@dataclass(frozen=True)
class ResumeState:
    """The job's seed, and what each sample has so far."""

    seed: int
    tokens: tuple[Tokens, ...]

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Read what `write` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            count = int(arrays["count"])
            tokens = tuple(arrays[f"tokens_{index}"].astype(np.int32) for index in range(count))
            return cls(int(arrays["seed"]), tokens)

    def write(self) -> bytes:
        """Write it as a NumPy archive."""
        buffer = io.BytesIO()
        arrays = {f"tokens_{index}": tokens.astype(np.int16) for index, tokens in enumerate(self.tokens)}
        np.savez(buffer, seed=np.int64(self.seed), count=np.int64(len(self.tokens)), **arrays)
        return buffer.getvalue()


class CheckpointWriter:
    """Keeps a job's memo up to date while it is generated, and its pace.

    Parameters
    ----------
    checkpoint
        Where the memo is kept.
    seed
        The job's.
    """

    def __init__(self, checkpoint: Checkpoint, seed: int) -> None:
        self._checkpoint = checkpoint
        self._seed = seed
        self._stored_at = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] = (0.0, 0)

    def keep(self, tokens: Sequence[Tokens]) -> None:
        """Take note of the tokens; see `worker.engines.musicgen.request.Keep`."""
        now = time.monotonic()
        self._last = (now, sum(row.shape[1] for row in tokens))
        self._first = self._first or self._last
        if now - self._stored_at >= CHECKPOINT_INTERVAL_S:
            self._stored_at = now
            self._checkpoint.store(ResumeState(self._seed, tuple(tokens)).write())

    @property
    def tokens_per_s(self) -> float | None:
        """How many positions were generated per second, all samples together; ``None`` before the second step."""
        if self._first is None or self._last[0] <= self._first[0]:
            return None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])
