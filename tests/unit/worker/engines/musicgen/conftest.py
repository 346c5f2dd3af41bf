from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest

from tests.references.musicgen_cases import Model, hash_weights
from tests.unit.worker.engines.musicgen.engine_harness import STEREO, EngineHarness
from worker.engines.musicgen.backends.registry import Engine
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.engine import import_loader
from worker.engines.musicgen.model.builtin_model import TINY
from worker.engines.musicgen.model.random_model import write_random_model
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.pipeline import MusicgenPipeline

LIMITS = BatchLimits(max_slots=16, max_cache_bytes=2**28)

TENSORS = "mindspore-tensors"

Write = Callable[[Model], Path]
Compose = Callable[[Model], MusicgenPipeline]
ComposeOn = Callable[[Engine, Model], MusicgenPipeline]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep two kinds of test in one process, and their order: MindNLP replaces methods of MindSpore's tensors.

    Tensors that were made without it cannot be converted any more then.
    """
    for item in items:
        if item.path.parent.name == "network" or item.path.stem == "test_through_mindnlp":
            item.add_marker(pytest.mark.xdist_group(TENSORS))


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write a reference's model; once for all tests."""

    @cache
    def write(model: Model) -> Path:
        folder: Path = tmp_path_factory.mktemp("model")
        model.write(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def load_on(write_model: Write, tmp_path_factory: pytest.TempPathFactory) -> ComposeOn:
    """Load a reference's model into an engine; once for all tests, with what was compiled for it."""
    kept: Path = tmp_path_factory.mktemp("compiled")

    @cache
    def load(engine: Engine, model: Model) -> MusicgenPipeline:
        title = ModelKey(f"someone/{model.seed}", write_model(model), "float32")
        composer = import_loader(engine)(title, "CPU", LIMITS, kept)
        assert isinstance(composer, MusicgenPipeline)
        return composer

    return load


@pytest.fixture(scope="session", params=[Engine.MINDSPORE, Engine.OPENVINO], ids=str)
def load_native(request: pytest.FixtureRequest, load_on: ComposeOn) -> Compose:
    """Load a reference's model into each of the service's own engines."""
    return partial(load_on, request.param)


@pytest.fixture(scope="session")
def hash_model(write_model: Write) -> Callable[[Model], str]:
    """Hash the weights that a reference's model has on this machine."""
    return cache(lambda model: hash_weights(write_model(model)))


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> EngineHarness:
    """An engine that keeps its models loaded for all tests; one is stereo, and loud."""
    studio = EngineHarness(tmp_path_factory.mktemp("studio"))
    write_random_model(studio.models / STEREO, replace(TINY, channels=2, loudness=1.0), seed=1)
    return studio
