"""The model cache keeps the most recently used models, and frees all memory of the models that it evicts."""

import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from shared.errors import JobFailedError
from shared.jobs import DeviceClass
from shared.settings import Settings
from shared.texts import text
from tests.unit.worker.engines.musicgen.engine_harness import CPU, ignore_report, ignore_tokens
from worker.engines.musicgen.backends.registry import choose_backend
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.model.builtin_model import TINY
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.download_cache import RECORD, find_folder, list_downloaded
from worker.engines.musicgen.model.random_model import Size, describe, write_random_model
from worker.engines.musicgen.model.tensors import count_bytes
from worker.engines.musicgen.model.tokenizer import PromptTokenizer
from worker.engines.musicgen.model_cache import ModelCache, ModelKey
from worker.engines.musicgen.pipeline import MusicgenPipeline
from worker.engines.musicgen.request import GeneratedSample, GenerationRequest, MusicGenerator, SampleRequest, Sampling

MB = 2**20
# A model with 190 MB of weights, nearly all of them in the decoder.
MIDDLE = replace(TINY, hidden=1_024, heads=16, feed_forward=4_096)

MakeKey = Callable[..., ModelKey]


@pytest.fixture
def make_key(tmp_path: Path) -> MakeKey:
    """Return a function that makes the folder of a model, with only a configuration in it, and returns the model's key.

    Models of the same size take the same memory.
    """

    def make(name: str, size: Size = TINY, precision: str = "float32") -> ModelKey:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(describe(size)))
        return ModelKey(name, folder, precision)

    return make


class FakeGenerator:
    """A model that consists only of its configuration."""

    backend = "fake"
    precision = "float32"
    max_slots = 2
    tokenizer: PromptTokenizer

    def __init__(self, key: ModelKey, closed: list[str]) -> None:
        self.config = ModelConfig.read(key.folder)
        self._name = key.name
        self._closed = closed

    def close(self) -> None:
        self._closed.append(self._name)

    def generate(self, *_: object) -> Iterator[GeneratedSample]:
        raise NotImplementedError


class FakeLoader:
    """Loads fake models, and records which models were loaded and which models were closed."""

    def __init__(self) -> None:
        self.loaded: list[ModelKey] = []
        self.closed: list[str] = []
        self.error: JobFailedError | None = None

    def __call__(self, key: ModelKey) -> MusicGenerator:
        if self.error is not None:
            raise self.error
        self.loaded.append(key)
        return FakeGenerator(key, self.closed)


def measure(key: ModelKey) -> int:
    return count_bytes(ModelConfig.read(key.folder))


def test_a_model_is_loaded_once(make_key: MakeKey) -> None:
    loader = FakeLoader()
    models = ModelCache(loader, 2**30)
    key = make_key("a")
    assert not models.is_loaded(key)
    assert models.get(key) is models.get(key)
    assert models.is_loaded(key)
    assert loader.loaded == [key]


def test_the_same_model_in_another_precision_is_loaded_separately(make_key: MakeKey) -> None:
    models = ModelCache(FakeLoader(), 2**30)
    models.get(make_key("a"))
    assert not models.is_loaded(make_key("a", precision="float16"))


def test_a_model_is_found_by_its_name_and_precision(make_key: MakeKey) -> None:
    models = ModelCache(FakeLoader(), 2**30)
    loaded = models.get(make_key("a"))
    models.get(make_key("b"))
    assert models.find("a", "float32") is loaded
    assert models.find("a", "float16") is None
    assert models.find("c", "float32") is None


def test_the_least_recently_used_model_is_evicted(make_key: MakeKey) -> None:
    first, second, third = make_key("a"), make_key("b"), make_key("c")
    loader = FakeLoader()
    models = ModelCache(loader, 2 * measure(first))
    for key in (first, second, first, third):
        models.get(key)
    assert [models.is_loaded(key) for key in (first, second, third)] == [True, False, True]
    models.get(second)
    assert [models.is_loaded(key) for key in (first, second, third)] == [False, True, True]
    assert loader.loaded == [first, second, third, second]
    assert loader.closed == ["b", "a"]


@pytest.mark.parametrize(("missing_bytes", "loaded"), [(0, [False, True, True]), (1, [False, False, True])])
def test_only_as_many_models_are_evicted_as_needed(make_key: MakeKey, missing_bytes: int, loaded: list[bool]) -> None:
    small = [make_key(name) for name in "abc"]
    large = make_key("large", replace(TINY, layers=3))
    assert measure(small[0]) < measure(large) < 2 * measure(small[0])
    max_bytes = 2 * measure(small[0]) + measure(large) - missing_bytes
    models = ModelCache(FakeLoader(), max(max_bytes, 3 * measure(small[0])))
    for key in small:
        models.get(key)
    models.get(large)
    assert [models.is_loaded(key) for key in small] == loaded
    assert models.is_loaded(large)


def test_a_model_larger_than_the_budget_is_loaded_alone(make_key: MakeKey) -> None:
    models = ModelCache(FakeLoader(), 1)
    for key in (make_key("a"), make_key("b")):
        models.get(key)
    assert [models.is_loaded(make_key(name)) for name in "ab"] == [False, True]


def test_a_model_that_cannot_be_read_evicts_no_model(make_key: MakeKey) -> None:
    models = ModelCache(FakeLoader(), 1)
    good, bad = make_key("good"), make_key("bad")
    (bad.folder / "config.json").write_text("{")
    models.get(good)
    with pytest.raises(JobFailedError, match=r"bad/config\.json"):
        models.get(bad)
    assert models.is_loaded(good)
    assert not models.is_loaded(bad)


def test_a_model_that_could_not_be_loaded_is_loaded_at_the_next_attempt(make_key: MakeKey) -> None:
    loader = FakeLoader()
    models = ModelCache(loader, 2**30)
    loader.error = JobFailedError("model-invalid", text("tokenizer-unreadable", path="tokenizer.json", error="damaged"))
    with pytest.raises(JobFailedError, match="damaged"):
        models.get(make_key("a"))
    assert not models.is_loaded(make_key("a"))
    loader.error = None
    models.get(make_key("a"))
    assert models.is_loaded(make_key("a"))


@pytest.mark.parametrize("backend", ["mindspore", "openvino"])
def test_an_evicted_model_frees_its_memory(tmp_path: Path, backend: str) -> None:
    load_generator = choose_backend(DeviceClass.CPU, Settings(musicgen_backend=backend)).import_loader()

    def load(key: ModelKey) -> MusicGenerator:
        return load_generator(key, CPU, BatchLimits(16, 2**30), tmp_path / "compiled")

    def use(name: str) -> MusicgenPipeline:
        pipeline = models.get(ModelKey(name, tmp_path / name, "float32"))
        request = GenerationRequest([SampleRequest("rock", None, 1)], 8, Sampling(True, 3.0, 1.0, 0, 1.0))  # noqa: FBT003 - by position
        list(pipeline.generate(request, ignore_report, ignore_tokens, None))
        assert isinstance(pipeline, MusicgenPipeline)
        return pipeline

    def measure_resident() -> int:
        return psutil.Process().memory_info().rss

    write_random_model(tmp_path / "small", TINY, seed=1)
    write_random_model(tmp_path / "middle", MIDDLE, seed=1)
    models = ModelCache(load, 1)
    use("small")
    before = measure_resident()
    pipeline = use("middle")
    # References to the pipeline, and to the decoder, which holds the largest arrays of the pipeline.
    references: list[Callable[[], object]] = [weakref.ref(each) for each in (pipeline, pipeline.model.decoder)]
    del pipeline
    assert measure_resident() - before > 150 * MB
    assert all(reference() is not None for reference in references)
    use("small")
    assert all(reference() is None for reference in references)
    assert measure_resident() - before < 60 * MB


def test_a_loaded_model_is_not_deleted_from_the_cache_of_downloads(make_key: MakeKey, tmp_path: Path) -> None:
    keys = []
    for name in ("first", "second"):
        made = make_key(name)
        snapshot = find_folder(tmp_path / "cache", name) / "snapshots" / "commit"
        shutil.copytree(made.folder, snapshot)
        (snapshot.parents[1] / RECORD).write_text('{"bytes": 1}')
        keys.append(replace(made, folder=snapshot))
    loader = FakeLoader()
    models = ModelCache(loader, measure(keys[0]))
    models.get(keys[0])
    first, second = sorted(list_downloaded(tmp_path / "cache"), key=lambda model: model.name)
    assert not first.delete()
    models.get(keys[1])  # evicts the first model from memory
    assert not second.delete()
    loader.error = JobFailedError("model-invalid", text("cancelled"))
    with pytest.raises(JobFailedError):
        models.get(keys[0])
    assert first.delete()
    assert second.delete()  # it was evicted from memory, too
