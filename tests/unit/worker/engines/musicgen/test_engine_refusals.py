"""Bad input: a sentence that names what is wrong and what to do, and the next job runs as if nothing had been."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from huggingface_hub import constants
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from shared.ids import make_id
from shared.jobs import DeviceClass
from shared.kinds.musicgen.catalogue import TINY
from shared.kinds.musicgen.parameters import Precision
from tests.unit.worker.engines.musicgen.engine_harness import EngineHarness
from worker.engines.musicgen.backends.registry import Engine
from worker.engines.musicgen.engine import MusicgenEngine

RATE_HZ = 32_000

Tensors = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def clip_folder(studio: EngineHarness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    silence = np.zeros(RATE_HZ // 5, np.float32)
    soundfile.write(folder / "clip.wav", silence, RATE_HZ, subtype="FLOAT")
    soundfile.write(folder / "empty.wav", silence[:0], RATE_HZ)
    soundfile.write(folder / "hour.flac", np.zeros(3_600 * 1_000, np.int16), 1_000)
    (folder / "text.wav").write_bytes(b"no sound at all " * 100)
    studio.clips |= {path.stem: path for path in folder.iterdir()}
    return folder


@pytest.mark.parametrize(
    ("params", "error_type", "words"),
    [
        ({"max_new_tokens": 2_048}, "too-long", ["2048 positions", "max_new_tokens", "shorter"]),
        ({"max_new_tokens": None, "duration_s": 600}, "too-long", ["2048 positions", "duration_s", "shorter"]),
    ],
    ids=str,
)
def test_what_the_model_cannot_do(
    studio: EngineHarness, params: dict[str, Any], error_type: str, words: list[str]
) -> None:
    error = studio.fail(**params)
    assert error.type == error_type
    assert [word for word in words if word not in error.detail] == []


@pytest.mark.parametrize(
    ("name", "precision", "choices"),
    [
        (Engine.OPENVINO, "float16", "auto or int8 or int4 or bfloat16 or float32"),
        (Engine.MINDSPORE, "float16", "auto or float32"),
        (Engine.MINDSPORE, "int8", "auto or float32"),
        (Engine.MINDNLP, "int4", "auto or float32"),
    ],
)
def test_numbers_that_the_engine_does_not_compute_in(
    studio: EngineHarness, name: Engine, precision: str, choices: str
) -> None:
    error = studio.fail(engine=studio.make_engine(name), precision=precision)
    assert error.type == "precision-unavailable"
    assert error.detail == f"precision {precision} is not offered by {name} on cpu; choose {choices}."


@pytest.mark.parametrize(
    ("clip", "params", "error_type", "words"),
    [
        ({"upload": "clip"}, {"max_new_tokens": 3}, "too-short", ["max_new_tokens 3", "at least 4", "duration_s"]),
        ({"upload": "clip", "end_s": 0.5}, {}, "clip-range", ["audio_prompts[0]", "0.20 s", "set end_s"]),
        ({"upload": "clip", "start_s": 0.5}, {}, "clip-range", ["audio_prompts[0]", "0.20 s", "set start_s"]),
        ({"upload": "text"}, {}, "clip-unreadable", ["audio_prompts[0]", "upload", "WAV"]),
        ({"upload": "empty"}, {}, "clip-empty", ["audio_prompts[0]", "upload another"]),
        ({"upload": "hour"}, {}, "clip-too-long", ["audio_prompts[0]", "3600.00 s", "set end_s to 40.94 or less"]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("clip_folder")
def test_clips_that_cannot_be_continued(
    studio: EngineHarness, clip: dict[str, Any], params: dict[str, Any], error_type: str, words: list[str]
) -> None:
    error = studio.fail(audio_prompts=[clip], **params)
    assert error.type == error_type
    assert [word for word in words if word not in error.detail] == []


@pytest.mark.usefixtures("clip_folder")
def test_one_token_more_than_too_few_continues_a_clip_by_a_frame(studio: EngineHarness) -> None:
    take = studio.run(audio_prompts=[{"upload": "clip"}], max_new_tokens=4)
    assert take.read_codes().shape == (4, 11)
    assert take.samples[0]["duration_s"] == 0.22


@pytest.fixture
def broken(studio: EngineHarness) -> Path:
    """Copy a model into a folder of its own, for the test to break; one that loads stays loaded."""
    studio.run()
    folder = studio.models / "someone" / make_id()
    shutil.copytree(studio.settings.home / "models" / TINY, folder)
    return folder


def change(folder: Path, change_them: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change_them(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def drop_tensor(folder: Path) -> None:
    change(folder, lambda tensors: tensors.pop("decoder.lm_heads.2.weight"))


def cut_tensor(folder: Path) -> None:
    name = "enc_to_dec_proj.bias"
    change(folder, lambda tensors: tensors.update({name: tensors[name][:-1].copy()}))


def cut_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def leave_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def drop_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def damage_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop_tensor, ["decoder.lm_heads.2.weight", "download the model again"]),
        (cut_tensor, ["enc_to_dec_proj.bias", "[63]", "[64]", "download the model again"]),
        (cut_file, ["model.safetensors", "download the model again"]),
        (leave_pickles, ["pytorch_model.bin", "safe_serialization=True"]),
        (drop_tokenizer, ["tokenizer.json", "complete that folder"]),
        (damage_tokenizer, ["tokenizer.json", "download the model again"]),
    ],
)
def test_models_that_cannot_be_used(
    studio: EngineHarness, broken: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    damage(broken)
    error = studio.fail(model=f"someone/{broken.name}")
    assert error.type == "model-invalid"
    assert str(broken) in error.detail
    assert [word for word in words if word not in error.detail] == []


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("openvino", "decoder.lm_heads.0.weight", "At position 1"),
        ("openvino", "text_encoder.encoder.final_layer_norm.weight", "At position 1"),
        ("openvino", "audio_encoder.decoder.layers.0.conv.bias", "audio of sample 0"),
        ("mindspore", "decoder.lm_heads.0.weight", "At position 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # to whole numbers, of what is none
def test_weights_that_are_no_numbers(studio: EngineHarness, broken: Path, name: str, tensor: str, words: str) -> None:
    change(broken, lambda tensors: tensors[tensor].fill(np.nan))
    error = studio.fail(engine=studio.make_engine(name), model=f"someone/{broken.name}")
    assert error.type == "not-finite"
    assert words in error.detail
    assert "another model" in error.detail


def test_a_model_that_is_not_there_while_offline(
    studio: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    error = studio.fail(model="someone/unknown")
    assert error.type == "model-unavailable"
    for words in ("someone/unknown", "HF_HUB_OFFLINE", TINY):
        assert words in error.detail


@pytest.mark.parametrize(
    ("device_class", "name", "auto"),
    [
        (DeviceClass.CPU, "openvino", Precision.INT8),
        (DeviceClass.GPU, "mindspore", Precision.FLOAT16),
        (DeviceClass.ASCEND, "mindspore", Precision.FLOAT16),
    ],
)
def test_every_device_has_an_engine_that_computes_in_float32_and_in_what_is_fastest(
    studio: EngineHarness, device_class: DeviceClass, name: str, auto: Precision
) -> None:
    engine = MusicgenEngine(device_class, studio.settings)
    assert engine.name == name
    assert engine._choose_precision(Precision.AUTO) == auto
    for each in (engine, *(studio.make_engine(other, device_class) for other in Engine)):
        assert each._choose_precision(Precision.FLOAT32) == Precision.FLOAT32
