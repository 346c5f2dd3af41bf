"""The zoo of audio files, made once."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.audio_zoo import ZOO, make_zoo


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The path of each specimen, keyed by its name."""
    return make_zoo(tmp_path_factory.mktemp("zoo"), ZOO)
