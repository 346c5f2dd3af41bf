"""The cache of the keys and values of all positions that were read; it has a fixed capacity and is written in place."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from mindspore import Parameter, Tensor, mutable, ops
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.layers import Target, to_numpy

Block = Any
"""A NumPy array (on the CPU), or a parameter of MindSpore (on other devices)."""


class KvCache:
    """The keys or the values of every layer: a block per layer, shape (rows, heads, capacity, head).

    On the CPU a block is a NumPy array, and the tensor that the cells read shares the
    memory of this array. MindSpore's own operators for writing into a tensor would copy
    the whole tensor on the CPU. For 8 guided jobs with 30 s of music, this copy takes
    23 ms per layer, while reading the tensor takes 8 ms. On other devices a block is a
    parameter in the memory of the device, and ``ScatterNdUpdate`` writes into it.
    """

    tensors: Any
    """The tensors of the blocks, as inputs for the cells."""

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
        """How many rows each block has."""
        return self._shape[0]

    @property
    def capacity(self) -> int:
        """How many positions each row has."""
        return self._shape[2]

    def get_row(self, row: int) -> Any:
        """Return one row of each block, shape (1, heads, capacity, head); on the CPU, the rows are not copied."""
        rows = [block[row : row + 1] for block in self._blocks]
        return mutable(tuple(Tensor.from_numpy(part) if isinstance(part, np.ndarray) else part for part in rows))

    def write(self, layer: int, rows: NDArray[np.int32], positions: NDArray[np.int32], values: Tensor) -> None:
        """Write the keys or values of a layer: one position in each of several rows, or several positions in one row.

        Parameters
        ----------
        rows, positions
            The row and the position of each value, shape (n,).
        values
            The keys or values, shape (n or more, heads * head); only the first n of these are written.
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
        """Overwrite row ``target`` with the content of row ``source``."""
        for index, block in enumerate(self._blocks):
            if isinstance(block, np.ndarray):
                block[target] = block[source]
            else:
                values = to_numpy(block).copy()
                values[target] = values[source]
                self._blocks[index] = _make_block(self._target, values)
        self._update_tensors()

    def resize(self, rows: int, capacity: int) -> "KvCache":
        """Return a cache of the given size, with as much of the content of this cache as fits into the size.

        If this cache has the given size, this cache itself is returned. Otherwise the
        memory of this cache is freed or passed on to the new cache, and this cache must
        not be used any more.
        """
        old_rows, heads, old_capacity, head = self._shape
        shape = (rows, heads, capacity, head)
        if shape == self._shape:
            return self
        self.tensors = None
        blocks = []
        while self._blocks:  # one block at a time, so that the old and the new cache are never both in memory
            old = self._blocks.pop(0)
            if isinstance(old, np.ndarray) and capacity == old_capacity and rows < old_rows:
                blocks.append(old[:rows])  # shares the old memory, which is freed when no slot is left
                continue
            values = np.zeros(shape, dtype=np.float32)
            content = old if isinstance(old, np.ndarray) else to_numpy(old)
            values[:old_rows, :, :old_capacity] = content[:rows, :, :capacity]
            blocks.append(_make_block(self._target, values))
        return KvCache(self._target, shape, blocks)

    def _update_tensors(self) -> None:
        """Make the tensor of each block, for the cells to read."""
        tensors = [Tensor.from_numpy(block) if isinstance(block, np.ndarray) else block for block in self._blocks]
        self.tensors = mutable(tuple(tensors))


def _make_block(target: Target, values: NDArray[np.float32]) -> Block:
    return values if target.device == "CPU" else Parameter(target.to_tensor(values), requires_grad=False)
