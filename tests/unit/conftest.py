"""Marks the tests that ``make check`` runs."""

from pathlib import Path
from typing import Final

import pytest

_UNIT: Final = Path(__file__).parent
QUICK_FOLDERS: Final = (
    _UNIT / "bench",
    _UNIT / "shared",
    _UNIT / "web",
    _UNIT / "worker/engines/musicgen/codec",
    _UNIT / "worker/engines/musicgen/decoding",
)
"""Folders of tests that need no server, framework or browser."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of these folders, but those that start other processes or take seconds."""
    for item in items:
        if any(folder in item.path.parents for folder in QUICK_FOLDERS) and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.quick)
