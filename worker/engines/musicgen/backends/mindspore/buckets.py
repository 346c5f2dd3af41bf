"""The sizes (buckets) that cells are compiled for; the size of an input is rounded up to one of these sizes."""

from typing import Final

BATCH_SIZES: Final = (1, 2, 4, 8, 16)
"""The possible numbers of rows in a step."""

CAPACITIES: Final = (128, 256, 512, 768, 1024, 1536, 2048)
"""The possible numbers of positions in a cache. A full cache grows only to the next size, so that a step reads few
unused positions."""

TEXT_TOKENS: Final = (32, 64, 128, 256, 512, 1024)
"""The possible numbers of tokens in a prompt, padding included."""

CHUNK: Final = 16
"""How many known positions are read at once.

MindSpore keeps the intermediate results of a compiled cell in memory. For musicgen-small, the results for all
capacities up to 1,536 take 1.2 GB together. With chunks of 64 positions, they took 4.4 GB, and reading was not faster.
"""


def round_up(count: int, sizes: tuple[int, ...]) -> int:
    """Return the smallest size that is at least ``count``; beyond the last size, the next multiple of the last size."""
    for size in sizes:
        if count <= size:
            return size
    return -(-count // sizes[-1]) * sizes[-1]
