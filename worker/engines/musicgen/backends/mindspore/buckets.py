"""The shapes that cells are compiled for: what is needed is rounded up to them."""

from typing import Final

ROWS: Final = (1, 2, 4, 8, 16)
"""How many rows a step has."""

CAPACITIES: Final = (128, 256, 512, 768, 1024, 1536, 2048)
"""How many positions a cache has; a full one grows to the next, so that a step reads little that is empty."""

TEXT_TOKENS: Final = (32, 64, 128, 256, 512, 1024)
"""How many tokens a prompt has."""

CHUNK: Final = 16
"""Known positions that are read at once. MindSpore keeps what a compiled cell computes in between: for the capacities
up to 1,536 together 1.2 GB of musicgen-small's shape, where chunks of 64 took 4.4, and were no faster."""


def round_up(count: int, sizes: tuple[int, ...]) -> int:
    """Return the smallest size that holds so many; beyond the last, a multiple of it."""
    for size in sizes:
        if count <= size:
            return size
    return -(-count // sizes[-1]) * sizes[-1]
