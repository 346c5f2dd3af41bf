"""Graphs are built once and stored, and built again after a change; if they cannot be stored, music is still made."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from shared.jobs import DeviceClass
from tests.references.musicgen_cases import CASES, MONO
from tests.unit.worker.engines.musicgen.backends.openvino.sequence_plans import (
    MODEL,
    PRECISIONS,
    SequencePlan,
    decode_alone,
    load_compiled,
)
from tests.unit.worker.engines.musicgen.conftest import LIMITS, Write
from tests.unit.worker.engines.musicgen.engine_harness import skip_without
from worker.devices import Device
from worker.engines.musicgen.backends.openvino import graph_cache
from worker.engines.musicgen.backends.openvino.decoder import OpenVinoDecoder
from worker.engines.musicgen.backends.openvino.decoder_graph import DecoderGraphBuilder
from worker.engines.musicgen.backends.openvino.model import load_generator
from worker.engines.musicgen.model_cache import ModelKey


@dataclass(frozen=True)
class StoredModel:
    """A model that the test may change, and a folder for the compiled graphs of the model."""

    folder: Path
    cache_folder: Path
    monkeypatch: pytest.MonkeyPatch

    def load_and_decode(self, precision: str = "int8", cache_folder: Path | None = None) -> NDArray[np.float32]:
        """Load the model, and compute the logits of a few steps."""
        compiled = load_compiled(self.folder, precision, cache_folder or self.cache_folder)
        return np.stack([*decode_alone(OpenVinoDecoder(compiled, 1), SequencePlan(0, 7, 5)).values()])

    def forbid_building(self) -> None:
        def refuse(_: DecoderGraphBuilder) -> None:
            raise AssertionError("the graph is built again")

        for name in ("build_step", "build_texts"):
            self.monkeypatch.setattr(DecoderGraphBuilder, name, refuse)


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredModel:
    MODEL.write(tmp_path / "model")
    return StoredModel(tmp_path / "model", tmp_path / "compiled", monkeypatch)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_graphs_are_built_once(stored: StoredModel, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    skip_without(precision)
    first = stored.load_and_decode(precision)
    stored.forbid_building()
    np.testing.assert_array_equal(stored.load_and_decode(precision), first)
    assert caplog.messages == []
    with pytest.raises(AssertionError, match="built again"):
        stored.load_and_decode("int8" if precision == "int4" else "int4")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_graphs_are_removed_if_a_file_of_their_model_is_replaced(stored: StoredModel, name: str) -> None:
    first = stored.load_and_decode()
    before = (stored.folder / name).stat()
    if name == "model.safetensors":
        replace(MODEL, seed=9).write(stored.folder)
        assert (stored.folder / name).stat().st_size == before.st_size
    os.utime(stored.folder / name, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    stored.forbid_building()
    with pytest.raises(AssertionError, match="built again"):
        stored.load_and_decode()
    stored.monkeypatch.undo()
    others = [stored.cache_folder / "of-another-model-step.xml", *stored.cache_folder.glob("*-texts.*")]
    others[0].touch()
    stored.load_and_decode("float32")
    assert np.array_equal(first, stored.load_and_decode()) == (name == "config.json")
    # The outdated graphs of the model are removed. The graphs of another model and of another precision are kept.
    assert [path.exists() for path in others] == [True, False, False]
    assert len([*stored.cache_folder.glob("*-step.xml")]) == 3


def test_graphs_are_built_again_after_a_change_of_the_code(stored: StoredModel) -> None:
    stored.load_and_decode()
    old = {*stored.cache_folder.iterdir()}
    stored.monkeypatch.setattr(graph_cache, "SOURCES_HASH", "of another version")
    stored.load_and_decode()
    assert old.isdisjoint(stored.cache_folder.iterdir())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


@pytest.mark.parametrize("file", ["step.xml", "step.bin", "texts.xml", "texts.bin"])
@pytest.mark.parametrize("damage", [cut, empty, overwrite, Path.unlink])
def test_damaged_graphs_are_built_again(
    stored: StoredModel, file: str, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    first = stored.load_and_decode()
    (path,) = stored.cache_folder.glob(f"*-{file}")
    damage(path)
    np.testing.assert_array_equal(stored.load_and_decode(), first)
    if path.suffix == ".bin" or damage != Path.unlink:
        [message] = caplog.messages
        assert message.startswith(f"the stored graph {path.with_suffix('.xml')} cannot be read and is built again")
    stored.forbid_building()
    np.testing.assert_array_equal(stored.load_and_decode(), first)


def fail_serializing(_: ov.Model, path: Path, weights: Path) -> None:
    for file in (path, weights):
        file.write_bytes(b"half of it")
    raise RuntimeError("No space left on device")


def test_decoding_works_if_graphs_cannot_be_stored(
    stored: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = stored.load_and_decode()
    (tmp_path / "file").touch()
    np.testing.assert_array_equal(stored.load_and_decode(cache_folder=tmp_path / "file"), first)
    assert [message.split(":")[0] for message in caplog.messages] == ["a graph cannot be stored"] * 2
    caplog.clear()
    monkeypatch.setattr(ov, "serialize", fail_serializing)
    np.testing.assert_array_equal(stored.load_and_decode(cache_folder=tmp_path / "full"), first)
    assert caplog.messages == ["a graph cannot be stored: No space left on device"] * 2
    assert [*(tmp_path / "full").iterdir()] == []


def test_generation_works_if_graphs_cannot_be_stored(
    write_model: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (case,) = (case for case in CASES if case.name == "text_guided")
    (tmp_path / "file").touch()
    key = ModelKey("someone/music", write_model(MONO), "float32")
    generator = load_generator(key, Device(DeviceClass.CPU, 0), LIMITS, tmp_path / "file")
    [sample] = generator.generate(case.make_request(), lambda **_: None, lambda _: None, None)
    np.testing.assert_array_equal(sample.codes, case.read()["codes"][0])
    assert any(record.levelno == logging.WARNING for record in caplog.records)
    assert all(record.levelno <= logging.WARNING for record in caplog.records)
