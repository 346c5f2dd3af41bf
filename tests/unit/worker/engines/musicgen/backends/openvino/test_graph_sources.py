"""The source files that the stored graphs depend on."""

import shutil
from pathlib import Path

import pytest

from worker.engines.musicgen.backends.openvino import graph_sources
from worker.engines.musicgen.backends.openvino.graph_sources import hash_sources, list_sources

SHAPING = (
    "backends/openvino/codec.py",
    "backends/openvino/compile_options.py",
    "backends/openvino/decoder_graph.py",
    "backends/openvino/graph_cache.py",
    "backends/openvino/text_encoder.py",
    "backends/openvino/weight_formats.py",
    "codec/rvq.py",
    "codec/padding.py",
    "codec/windows.py",
    "model/configuration.py",
    "model/relative_positions.py",
    "model/seanet.py",
    "model/sinusoids.py",
    "model/tensors.py",
    "model/weights.py",
)
UNRELATED = (
    "engine.py",
    "pipeline.py",
    "audio/clips.py",
    "audio/loudness.py",
    "backends/mindspore/decoder.py",
    "backends/openvino/model.py",
    "decoding/scheduler.py",
    "model/download.py",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the package, so that the test may change the files of the copy."""
    return shutil.copytree(graph_sources.FOLDER, tmp_path / "musicgen", ignore=shutil.ignore_patterns("__pycache__"))


def test_files_of_a_copy_have_the_same_hash(folder: Path) -> None:
    assert hash_sources(folder) == hash_sources()


@pytest.mark.parametrize("name", SHAPING)
def test_change_of_a_source_that_shapes_graphs_changes_the_hash(folder: Path, name: str) -> None:
    before = hash_sources(folder)
    with (folder / name).open("a") as file:
        file.write("\n# changed\n")
    assert hash_sources(folder) != before


@pytest.mark.parametrize("name", UNRELATED)
def test_change_of_an_unrelated_source_does_not_change_the_hash(folder: Path, name: str) -> None:
    before = hash_sources(folder)
    with (folder / name).open("a") as file:
        file.write("\n# changed\n")
    assert hash_sources(folder) == before


@pytest.mark.parametrize(
    "statement",
    [
        "import worker.engines.musicgen.model.scales",
        "from worker.engines.musicgen.model import scales",
        "from worker.engines.musicgen.model.scales import SCALE",
        "def read():\n    from worker.engines.musicgen.model.scales import SCALE\n    return SCALE",
    ],
)
def test_new_module_is_found_by_its_import(folder: Path, statement: str) -> None:
    new = folder / "model" / "scales.py"
    new.write_text("SCALE = 2\n")
    assert new not in list_sources(folder)
    with (folder / "model" / "sinusoids.py").open("a") as file:
        file.write(f"\n{statement}\n")
    assert new in list_sources(folder)
