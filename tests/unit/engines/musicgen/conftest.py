from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.references.musicgen_cases import Model, hash_weights
from tests.unit.engines.musicgen.studio import STEREO, Studio
from worker.engines.musicgen.native import NativeComposer
from worker.engines.musicgen.network.layers import Target
from worker.engines.musicgen.random_model import write_random_model
from worker.engines.musicgen.tiny import TINY

Compose = Callable[[Model], NativeComposer]


@pytest.fixture(scope="session")
def load_native(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """Load a reference's model into MindSpore; once for all tests, with what was compiled for it."""

    @cache
    def load(model: Model) -> NativeComposer:
        folder: Path = tmp_path_factory.mktemp("model")
        model.write(folder)
        return NativeComposer(folder, Target(), cache_bytes_most=2**30)

    return load


@pytest.fixture(scope="session")
def hash_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Model], str]:
    """Hash the weights that a reference's model has on this machine."""

    @cache
    def calculate(model: Model) -> str:
        folder: Path = tmp_path_factory.mktemp("hashed")
        model.write(folder)
        return hash_weights(folder)

    return calculate


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """An engine that keeps its models loaded for all tests; one is stereo, and loud."""
    studio = Studio(tmp_path_factory.mktemp("studio"))
    write_random_model(studio.models / STEREO, replace(TINY, channels=2, loudness=1.0), seed=1)
    return studio
