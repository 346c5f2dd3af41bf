"""What an attempt stores so that the next attempt can continue if a worker is lost: the seed and the tokens so far."""

import io
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from shared.kinds.musicgen.seeds import draw_seed
from worker.engines.interface import Checkpoint
from worker.engines.musicgen.request import Tokens

CHECKPOINT_INTERVAL_S: Final = 3.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResumeState:
    """The job's seed, and the tokens that each sample has so far."""

    seed: int
    tokens: tuple[Tokens, ...]

    @classmethod
    def load_or_start(cls, checkpoint: Checkpoint, seed: int | None) -> Self:
        """Load what an earlier attempt stored, or start the job.

        Parameters
        ----------
        seed
            The seed in the job's parameters. If it is ``None``, as in jobs of earlier versions, a seed is drawn at
            random. The seed is stored at once, so that every later attempt uses the same seed.
        """
        content = checkpoint.load()
        if content is not None:
            try:
                return cls.parse(content)
            except Exception:  # the checkpoint is damaged, or another version of the engine wrote it
                logger.exception("the checkpoint cannot be read; the job starts from the beginning")
        state = cls(draw_seed() if seed is None else seed, ())
        checkpoint.store(state.serialize())
        return state

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Parse what `serialize` returned."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            count = int(arrays["count"])
            tokens = tuple(arrays[f"tokens_{index}"].astype(np.int32) for index in range(count))
            return cls(int(arrays["seed"]), tokens)

    def serialize(self) -> bytes:
        """Return the state as a NumPy archive."""
        buffer = io.BytesIO()
        arrays = {f"tokens_{index}": tokens.astype(np.int16) for index, tokens in enumerate(self.tokens)}
        np.savez(buffer, seed=np.int64(self.seed), count=np.int64(len(self.tokens)), **arrays)
        return buffer.getvalue()


class CheckpointWriter:
    """Stores the state of a job every few seconds while tokens are generated, and measures the speed of the generation.

    Parameters
    ----------
    checkpoint
        Where the state is stored.
    seed
        The seed of the job.
    """

    def __init__(self, checkpoint: Checkpoint, seed: int) -> None:
        self._checkpoint = checkpoint
        self._seed = seed
        self._stored_at_s = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] = (0.0, 0)

    def update(self, tokens: Sequence[Tokens]) -> None:
        """Count the tokens so far; store them if the last checkpoint is at least ``CHECKPOINT_INTERVAL_S`` old.

        The generator calls this method as its callback ``on_tokens``; see `worker.engines.musicgen.request.OnTokens`.
        """
        now_s = time.monotonic()
        self._last = (now_s, sum(sample.shape[1] for sample in tokens))
        self._first = self._first or self._last
        if now_s - self._stored_at_s >= CHECKPOINT_INTERVAL_S:
            self._stored_at_s = now_s
            self._checkpoint.store(ResumeState(self._seed, tuple(tokens)).serialize())

    @property
    def tokens_per_s(self) -> float | None:
        """The generated positions per second, added up over all samples; ``None`` until ``update`` was called twice."""
        if self._first is None or self._last[0] <= self._first[0]:
            return None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])
