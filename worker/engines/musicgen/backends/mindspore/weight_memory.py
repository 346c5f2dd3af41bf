"""Memory for weights that can be freed although MindSpore still refers to it."""

import mmap

import numpy as np
from numpy.typing import NDArray


class WeightMemory:
    """Memory outside of every allocator; ``release`` frees it even if arrays or tensors still refer to it.

    MindSpore never frees a parameter that a compiled cell has read. So the memory of an
    evicted model would stay in use until the process ends. (Weights that are inputs of
    the cell would be freed, but 300 inputs cost 10 ms or more in each call.)
    """

    def __init__(self) -> None:
        self._mappings: list[mmap.mmap] = []

    def copy(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Copy values into memory that ``release`` frees."""
        mapping = mmap.mmap(-1, max(values.nbytes, 1))
        self._mappings.append(mapping)
        copied = np.frombuffer(mapping, dtype=np.float32, count=values.size).reshape(values.shape)
        copied[...] = values
        return copied

    def release(self) -> None:
        """Return the memory to the system; from then on, arrays in this memory contain zeros."""
        for mapping in self._mappings:
            mapping.madvise(mmap.MADV_DONTNEED)
        self._mappings.clear()
