"""Models and an engine that are loaded once for all tests."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Final

import pytest

from shared.jobs import DeviceClass
from shared.settings import Settings
from tests.references.musicgen_cases import Case, Model, hash_weights
from tests.unit.worker.engines.musicgen.engine_harness import CPU, STEREO, EngineHarness
from worker.engines.musicgen.backends.registry import choose_backend
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.model.builtin_model import TINY
from worker.engines.musicgen.model.random_model import write_random_model
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.pipeline import MusicgenPipeline

LIMITS: Final = BatchLimits(max_slots=16, max_cache_bytes=2**28)

ONE_OF_EACH_KIND: Final = {
    "text_guided",
    "unconditional_two",
    "clips_two",
    "stereo_sampled",
    "stereo_clip",
    "classic",
    "shortcut",
    "unprojected",
    "undelayed_clip",
    "sampled_all",
}
"""Reference cases that together have every model, every type of prompt (text, clip, none), every delay pattern, and
tokens that are chosen with and without sampling.

``make test`` runs all cases on OpenVINO, but only these cases on MindSpore. ``make test-long`` runs the other cases on
MindSpore.
"""

Write = Callable[[Model], Path]
Load = Callable[[Model], MusicgenPipeline]
LoadOn = Callable[[str, Model], MusicgenPipeline]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of MindSpore and MindNLP in one process, and leave some tests of MindSpore to ``make test-long``.

    The tests of MindNLP run last, because MindNLP replaces methods of MindSpore's tensors. Tensors that already
    existed can no longer be converted afterwards.
    """
    folders = {item: item.path.parent.name for item in items}
    for item in items:
        if folders[item] in {"mindspore", "mindnlp"}:
            item.add_marker(pytest.mark.xdist_group("mindspore-tensors"))
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        case = params.get("case")
        on_mindspore = folders[item] == "mindspore" or params.get("load") == "mindspore"
        if on_mindspore and isinstance(case, Case) and case.name not in ONE_OF_EACH_KIND:
            item.add_marker(pytest.mark.long)
    items.sort(key=lambda item: folders[item] == "mindnlp")


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Return a function that writes a reference model and returns the folder; each model is written only once."""

    @cache
    def write(model: Model) -> Path:
        folder: Path = tmp_path_factory.mktemp("model")
        model.write(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def load_on(write_model: Write, tmp_path_factory: pytest.TempPathFactory) -> LoadOn:
    """Return a function that loads a reference model on the backend with the given name.

    Each model is loaded only once on each backend, and the compiled graphs are kept for all tests.
    """
    compiled: Path = tmp_path_factory.mktemp("compiled")

    @cache
    def load(backend: str, model: Model) -> MusicgenPipeline:
        key = ModelKey(f"someone/{model.seed}", write_model(model), "float32")
        load_generator = choose_backend(DeviceClass.CPU, Settings(musicgen_backend=backend)).import_loader()
        pipeline = load_generator(key, CPU, LIMITS, compiled)
        assert isinstance(pipeline, MusicgenPipeline)
        return pipeline

    return load


@pytest.fixture(scope="session", params=["mindspore", "openvino"])
def load(request: pytest.FixtureRequest, load_on: LoadOn) -> Load:
    """Return a function that loads a reference model; each test runs once for each backend that uses the pipeline."""
    return partial(load_on, request.param)


@pytest.fixture(scope="session")
def hash_model(write_model: Write) -> Callable[[Model], str]:
    """Return a function that hashes the weights of a reference model, as they are written on this machine."""
    return cache(lambda model: hash_weights(write_model(model)))


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> EngineHarness:
    """Return a harness whose engine keeps its models loaded for all tests.

    Its model ``STEREO`` has two channels, and generates loud audio.
    """
    harness = EngineHarness(tmp_path_factory.mktemp("engine"))
    write_random_model(harness.models / STEREO, replace(TINY, channels=2, loudness=1.0), seed=1)
    return harness
