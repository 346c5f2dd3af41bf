"""Which models stay loaded, and that those which leave take nothing with them."""

import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from shared.errors import JobFailedError
from tests.unit.worker.engines.musicgen.test_pipeline import ignore_report, ignore_tokens
from worker.engines.musicgen.backends.registry import Engine
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.engine import import_loader
from worker.engines.musicgen.model.builtin_model import TINY
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.random_model import Size, describe, write_random_model
from worker.engines.musicgen.model.tensors import count_bytes
from worker.engines.musicgen.model_cache import ModelCache, ModelKey
from worker.engines.musicgen.pipeline import MusicgenPipeline
from worker.engines.musicgen.request import GeneratedSample, GenerationRequest, MusicGenerator, SampleRequest, Sampling

MB = 2**20
# 190 MB, nearly all of it in the decoder.
MIDDLE = replace(TINY, hidden=1_024, heads=16, feed_forward=4_096)

Place = Callable[..., ModelKey]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Make the folder of a model that nobody loads; models of the same size take the same memory."""

    def make(name: str, size: Size = TINY, precision: str = "float32") -> ModelKey:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(describe(size)))
        return ModelKey(name, folder, precision)

    return make


class FakeComposer:
    """A model of which there is nothing but the configuration."""

    engine = "fake"
    precision = "float32"
    max_slots = 2

    def __init__(self, title: ModelKey, closed: list[str]) -> None:
        self.config = ModelConfig.read(title.folder)
        self._name = title.name
        self._closed = closed

    def close(self) -> None:
        self._closed.append(self._name)

    def compose(self, *_: object) -> list[GeneratedSample]:
        raise NotImplementedError


class Loads:
    """Loads fakes, and keeps account of it."""

    def __init__(self) -> None:
        self.titles: list[ModelKey] = []
        self.closed: list[str] = []
        self.refusal: JobFailedError | None = None

    def __call__(self, title: ModelKey) -> MusicGenerator:
        if self.refusal is not None:
            raise self.refusal
        self.titles.append(title)
        return FakeComposer(title, self.closed)


def measure(title: ModelKey) -> int:
    return count_bytes(ModelConfig.read(title.folder))


def test_a_model_is_loaded_once(place: Place) -> None:
    loads = Loads()
    shelf = ModelCache(loads, 2**30)
    title = place("a")
    assert not shelf.holds(title)
    assert shelf.take(title) is shelf.take(title)
    assert shelf.holds(title)
    assert loads.titles == [title]


def test_a_model_in_other_numbers_is_another(place: Place) -> None:
    shelf = ModelCache(Loads(), 2**30)
    shelf.take(place("a"))
    assert not shelf.holds(place("a", precision="float16"))


def test_the_least_recently_used_leaves(place: Place) -> None:
    first, second, third = place("a"), place("b"), place("c")
    loads = Loads()
    shelf = ModelCache(loads, 2 * measure(first))
    for title in (first, second, first, third):
        shelf.take(title)
    assert [shelf.holds(title) for title in (first, second, third)] == [True, False, True]
    shelf.take(second)
    assert [shelf.holds(title) for title in (first, second, third)] == [False, True, True]
    assert loads.titles == [first, second, third, second]
    assert loads.closed == ["b", "a"]


@pytest.mark.parametrize(("missing_bytes", "stay"), [(0, [False, True, True]), (1, [False, False, True])])
def test_as_many_leave_as_must_and_no_more(place: Place, missing_bytes: int, stay: list[bool]) -> None:
    small = [place(name) for name in "abc"]
    large = place("large", replace(TINY, layers=3))
    assert measure(small[0]) < measure(large) < 2 * measure(small[0])
    room = 2 * measure(small[0]) + measure(large) - missing_bytes
    shelf = ModelCache(Loads(), max(room, 3 * measure(small[0])))
    for title in small:
        shelf.take(title)
    shelf.take(large)
    assert [shelf.holds(title) for title in small] == stay
    assert shelf.holds(large)


def test_a_model_larger_than_the_budget_is_let_in_alone(place: Place) -> None:
    shelf = ModelCache(Loads(), 1)
    for title in (place("a"), place("b")):
        shelf.take(title)
    assert [shelf.holds(place(name)) for name in "ab"] == [False, True]


def test_a_model_that_cannot_be_read_drives_nothing_out(place: Place) -> None:
    shelf = ModelCache(Loads(), 1)
    good, bad = place("good"), place("bad")
    (bad.folder / "config.json").write_text("{")
    shelf.take(good)
    with pytest.raises(JobFailedError, match=r"bad/config\.json"):
        shelf.take(bad)
    assert shelf.holds(good)
    assert not shelf.holds(bad)


def test_a_model_that_cannot_be_loaded_is_tried_again(place: Place) -> None:
    loads = Loads()
    shelf = ModelCache(loads, 2**30)
    loads.refusal = JobFailedError("model-invalid", "No.")
    with pytest.raises(JobFailedError, match="No"):
        shelf.take(place("a"))
    assert not shelf.holds(place("a"))
    loads.refusal = None
    shelf.take(place("a"))
    assert shelf.holds(place("a"))


@pytest.mark.parametrize("engine", [Engine.MINDSPORE, Engine.OPENVINO])
def test_memory_is_given_back(tmp_path: Path, engine: Engine) -> None:
    def load(title: ModelKey) -> MusicGenerator:
        return import_loader(engine)(title, "CPU", BatchLimits(16, 2**30), tmp_path / "compiled")

    def use(name: str) -> MusicgenPipeline:
        composer = shelf.take(ModelKey(name, tmp_path / name, "float32"))
        order = GenerationRequest([SampleRequest("rock", None, 1)], 8, Sampling(True, 3.0, 1.0, 0, 1.0))  # noqa: FBT003 - by position
        composer.compose(order, ignore_report, ignore_tokens, None)
        assert isinstance(composer, MusicgenPipeline)
        return composer

    def measure_resident() -> int:
        return psutil.Process().memory_info().rss

    write_random_model(tmp_path / "small", TINY, seed=1)
    write_random_model(tmp_path / "middle", MIDDLE, seed=1)
    shelf = ModelCache(load, 1)
    use("small")
    before = measure_resident()
    composer = use("middle")
    # The composer, and what holds the largest arrays that it has.
    traces: list[Callable[[], object]] = [weakref.ref(held) for held in (composer, composer._parts.decoder)]
    del composer
    assert measure_resident() - before > 150 * MB
    assert all(trace() is not None for trace in traces)
    use("small")
    assert all(trace() is None for trace in traces)
    assert measure_resident() - before < 60 * MB
