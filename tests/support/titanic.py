"""The people on the Titanic: a table with many equal rows, so that distances are often equal."""

from typing import Final

SURVIVORS: Final = {
    (1, 0, 0): (1, 0),
    (1, 0, 1): (5, 0),
    (1, 1, 0): (140, 4),
    (1, 1, 1): (57, 118),
    (2, 0, 0): (13, 0),
    (2, 0, 1): (11, 0),
    (2, 1, 0): (80, 13),
    (2, 1, 1): (14, 154),
    (3, 0, 0): (14, 17),
    (3, 0, 1): (13, 35),
    (3, 1, 0): (76, 89),
    (3, 1, 1): (75, 387),
    (4, 1, 0): (20, 3),
    (4, 1, 1): (192, 670),
}
"""Survivors and victims for each class, age group (1 for adults) and sex (1 for men)."""


def list_people() -> list[tuple[int, int, int, int]]:
    """Return class, age group, sex, and whether the person survived: 2,201 rows, the survivors first."""
    return [
        (*group, 1 - victims)
        for victims in (0, 1)
        for group, counts in SURVIVORS.items()
        for _ in range(counts[victims])
    ]
