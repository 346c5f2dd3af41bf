"""The keys and values of the positions that were read, at a fixed capacity, written in place."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from mindspore import Parameter, Tensor, mutable, ops
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.layers import Target, to_numpy

Block = Any
"""A NumPy array, or MindSpore's parameter."""


class KvCache:
    """The keys or the values of every layer: a block per layer, shape (rows, heads, capacity, head).

    On the CPU a block is a NumPy array, and the tensor that the cells read shares
    its memory: MindSpore's operators that write into a tensor copy all of it
    there (23 ms a layer for 8 guided jobs at 30 s; reading it takes 8).
    Elsewhere a block is a parameter on the device, written by ``ScatterNdUpdate``.
    """

    tensors: Any
    """The blocks as the cells read them."""

    def __init__(self, target: Target, shape: tuple[int, int, int, int], blocks: Sequence[Block]) -> None:
        self._target = target
        self._shape = shape
        self._blocks = list(blocks)
        self._update_tensors()

    @classmethod
    def allocate(cls, target: Target, layers: int, shape: tuple[int, int, int, int]) -> Self:
        """Allocate an empty cache."""
        return cls(target, shape, [_make_block(target, np.zeros(shape, dtype=np.float32)) for _ in range(layers)])

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._shape[0]

    @property
    def capacity(self) -> int:
        """How many positions each row has."""
        return self._shape[2]

    def get_row(self, row: int) -> Any:
        """Return one row's blocks, shape (1, heads, capacity, head); on the CPU they share the cache's memory."""
        rows = [block[row : row + 1] for block in self._blocks]
        return mutable(tuple(Tensor.from_numpy(part) if isinstance(part, np.ndarray) else part for part in rows))

    def write(self, layer: int, rows: NDArray[np.int32], positions: NDArray[np.int32], values: Tensor) -> None:
        """Write one position of each row, or several positions of one row.

        Parameters
        ----------
        rows, positions
            Shape (n,).
        values
            Shape (n or more, heads * head); only the first n are written.
        """
        _, heads, _, head = self._shape
        n = len(rows)
        block = self._blocks[layer]
        if isinstance(block, np.ndarray):
            block[rows, :, positions] = to_numpy(values)[:n].reshape(n, heads, head)
            return
        indices = np.stack(np.broadcast_arrays(rows[:, None], np.arange(heads), positions[:, None]), axis=-1)
        ops.ScatterNdUpdate()(block, Tensor.from_numpy(indices.astype(np.int32)), values[:n].reshape(n, heads, head))

    def copy_row(self, source: int, target: int) -> None:
        """Overwrite one row with the content of another."""
        for index, block in enumerate(self._blocks):
            if isinstance(block, np.ndarray):
                block[target] = block[source]
            else:
                values = to_numpy(block).copy()
                values[target] = values[source]
                self._blocks[index] = _make_block(self._target, values)
        self._update_tensors()

    def resize(self, rows: int, capacity: int) -> "KvCache":
        """Return a cache of another size with the same content, as far as it fits.

        If the size is the same, this cache itself is returned; otherwise its memory
        is freed or used again, and it must not be used any more.
        """
        old_rows, heads, old_capacity, head = self._shape
        shape = (rows, heads, capacity, head)
        if shape == self._shape:
            return self
        self.tensors = None
        blocks = []
        while self._blocks:  # block by block, so that the two caches are never in memory together
            old = self._blocks.pop(0)
            if isinstance(old, np.ndarray) and capacity == old_capacity and rows < old_rows:
                blocks.append(old[:rows])  # the same memory: it is freed when the last row is dropped
                continue
            values = np.zeros(shape, dtype=np.float32)
            content = old if isinstance(old, np.ndarray) else to_numpy(old)
            values[:old_rows, :, :old_capacity] = content[:rows, :, :capacity]
            blocks.append(_make_block(self._target, values))
        return KvCache(self._target, shape, blocks)

    def _update_tensors(self) -> None:
        """Make the tensors of the blocks that the cells read."""
        tensors = [Tensor.from_numpy(block) if isinstance(block, np.ndarray) else block for block in self._blocks]
        self.tensors = mutable(tuple(tensors))


def _make_block(target: Target, values: NDArray[np.float32]) -> Block:
    return values if target.device == "CPU" else Parameter(target.to_tensor(values), requires_grad=False)
