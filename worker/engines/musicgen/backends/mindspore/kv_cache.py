"""Keys and values of what the rows have read, at a fixed capacity, written in place."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from mindspore import Parameter, Tensor, mutable, ops
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.layers import Target, take

Block = Any
"""A NumPy array, or MindSpore's parameter."""


class KvCache:
    """Keys or values of every layer: a block per layer, shape (rows, heads, capacity, head).

    On the CPU a block is a NumPy array, and the tensor that the cells read is the
    same memory: MindSpore's operators that write into a tensor copy all of it
    there (23 ms a layer for 8 guided jobs at 30 s, where reading it takes 8).
    Elsewhere a block is a parameter on the device, written by ``ScatterNdUpdate``.
    """

    tensors: Any
    """The blocks as the cells read them."""

    def __init__(self, target: Target, shape: tuple[int, int, int, int], blocks: Sequence[Block]) -> None:
        self._target = target
        self._shape = shape
        self._blocks = list(blocks)
        self._show()

    @classmethod
    def make(cls, target: Target, layers: int, shape: tuple[int, int, int, int]) -> Self:
        """Make an empty cache."""
        return cls(target, shape, [_make_block(target, shape) for _ in range(layers)])

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._shape[0]

    @property
    def capacity(self) -> int:
        """How many positions each row has."""
        return self._shape[2]

    def take_row(self, row: int) -> Any:
        """Return one row's blocks, shape (1, heads, capacity, head); on the CPU the same memory again."""
        rows = [block[row : row + 1] for block in self._blocks]
        return mutable(tuple(Tensor.from_numpy(part) if isinstance(part, np.ndarray) else part for part in rows))

    def write(self, layer: int, rows: NDArray[np.int32], positions: NDArray[np.int32], values: Tensor) -> None:
        """Write one position of each row, or several of one.

        Parameters
        ----------
        rows, positions
            Shape (n,).
        values
            Shape (n or more, heads * head); what is more is left out.
        """
        _, heads, _, head = self._shape
        n = len(rows)
        block = self._blocks[layer]
        if isinstance(block, np.ndarray):
            block[rows, :, positions] = take(values)[:n].reshape(n, heads, head)
            return
        places = np.broadcast_arrays(rows[:, None], np.arange(heads), positions[:, None])
        indices = Tensor.from_numpy(np.stack(places, axis=-1).astype(np.int32))
        ops.ScatterNdUpdate()(block, indices, values[:n].reshape(n, heads, head))

    def copy_row(self, source: int, target: int) -> None:
        """Copy all that one row holds over another."""
        for index, block in enumerate(self._blocks):
            if isinstance(block, np.ndarray):
                block[target] = block[source]
            else:
                values = take(block).copy()
                values[target] = values[source]
                self._blocks[index] = _hold_block(self._target, values)
        self._show()

    def resize(self, rows: int, capacity: int) -> "KvCache":
        """Return a cache with so many rows and positions that holds the same, as far as it has room.

        Of this one, nothing is left, unless it is of that size itself.
        """
        held_rows, heads, held, head = self._shape
        shape = (rows, heads, capacity, head)
        if shape == self._shape:
            return self
        self.tensors = None
        blocks = []
        while self._blocks:  # block by block, so that never both caches are in memory
            old = self._blocks.pop(0)
            if isinstance(old, np.ndarray) and capacity == held and rows < held_rows:
                blocks.append(old[:rows])  # the same memory: it is given back when the last row goes
                continue
            values = np.zeros(shape, dtype=np.float32)
            kept = old if isinstance(old, np.ndarray) else take(old)
            values[:held_rows, :, :held] = kept[:rows, :, :capacity]
            blocks.append(_hold_block(self._target, values))
        return KvCache(self._target, shape, blocks)

    def _show(self) -> None:
        """Show the cells the blocks."""
        tensors = [Tensor.from_numpy(block) if isinstance(block, np.ndarray) else block for block in self._blocks]
        self.tensors = mutable(tuple(tensors))


def _make_block(target: Target, shape: tuple[int, int, int, int]) -> Block:
    return _hold_block(target, np.zeros(shape, dtype=np.float32))


def _hold_block(target: Target, values: NDArray[np.float32]) -> Block:
    return values if target.device == "CPU" else Parameter(target.send(values), requires_grad=False)
