"""Marks the tests that ``make check`` runs."""

from pathlib import Path
from typing import Final

import pytest

_UNIT: Final = Path(__file__).parent
QUICK_FOLDERS: Final = (
    _UNIT / "bench",
    _UNIT / "faults",
    _UNIT / "shared",
    _UNIT / "web",
    _UNIT / "worker/engines/musicgen/codec",
    _UNIT / "worker/engines/musicgen/decoding",
)
"""Folders of tests that need no framework and no browser. Only ``web/kinds/test_forms.py`` needs a server: Redis."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the other folders if only quick tests are wanted: importing them imports MindSpore, which takes seconds."""
    if config.option.markexpr != "quick":
        return None
    parents = {collection_path, *collection_path.parents}
    is_quick = any(folder in parents or collection_path in folder.parents for folder in QUICK_FOLDERS)
    return None if is_quick else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in ``QUICK_FOLDERS`` as quick, except the tests that are marked as slow.

    Slow tests start other processes or take seconds.
    """
    for item in items:
        if any(folder in item.path.parents for folder in QUICK_FOLDERS) and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.quick)
