"""Memory for weights that can be given back while MindSpore still refers to it."""

import mmap

import numpy as np
from numpy.typing import NDArray


class WeightMemory:
    """Memory outside of every allocator, freed by name and not by counting references.

    MindSpore never lets go of a parameter that a compiled cell has read, so a
    model that leaves would keep its memory for ever. (As inputs of the cell,
    weights are freed, but 300 of them cost 10 ms and more at each call.)
    """

    def __init__(self) -> None:
        self._mappings: list[mmap.mmap] = []

    def place(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Copy values into memory that ``release`` gives back."""
        mapping = mmap.mmap(-1, max(values.nbytes, 1))
        self._mappings.append(mapping)
        placed = np.frombuffer(mapping, dtype=np.float32, count=values.size).reshape(values.shape)
        placed[...] = values
        return placed

    def release(self) -> None:
        """Give the memory back to the system; whoever reads it from now on finds zeros."""
        for mapping in self._mappings:
            mapping.madvise(mmap.MADV_DONTNEED)
        self._mappings.clear()
