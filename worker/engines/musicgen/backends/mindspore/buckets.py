"""The sizes that cells are compiled for; a needed size is rounded up to one of them."""

from typing import Final

BATCH_SIZES: Final = (1, 2, 4, 8, 16)
"""How many rows a step has."""

CAPACITIES: Final = (128, 256, 512, 768, 1024, 1536, 2048)
"""How many positions a cache has. A full one grows to the next size only, so that a step reads few unused positions."""

TEXT_TOKENS: Final = (32, 64, 128, 256, 512, 1024)
"""How many tokens a prompt has."""

CHUNK: Final = 16
"""How many known positions are read at once. MindSpore keeps the intermediate results of a compiled cell: for the
capacities up to 1,536 together 1.2 GB at musicgen-small's size. Chunks of 64 took 4.4 GB, and were not faster."""


def round_up(count: int, sizes: tuple[int, ...]) -> int:
    """Return the smallest size that is at least ``count``; beyond the last size, a multiple of it."""
    for size in sizes:
        if count <= size:
            return size
    return -(-count // sizes[-1]) * sizes[-1]
