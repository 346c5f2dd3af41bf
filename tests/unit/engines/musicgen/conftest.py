from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.references.musicgen_cases import Model, hash_weights
from worker.engines.musicgen.native import NativeComposer
from worker.engines.musicgen.network.layers import Target

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
