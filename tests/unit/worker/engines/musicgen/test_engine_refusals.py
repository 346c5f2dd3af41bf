"""Jobs with bad input fail: the error explains the problem and the remedy, and the next job is not affected."""

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
from worker.devices import Device
from worker.engines.musicgen.backends.processor import list_openvino_precisions
from worker.engines.musicgen.backends.registry import BACKENDS
from worker.engines.musicgen.engine import MusicgenEngine

RATE_HZ = 32_000

Tensors = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def clip_folder(harness: EngineHarness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    silence = np.zeros(RATE_HZ // 5, np.float32)
    soundfile.write(folder / "clip.wav", silence, RATE_HZ, subtype="FLOAT")
    soundfile.write(folder / "empty.wav", silence[:0], RATE_HZ)
    soundfile.write(folder / "hour.flac", np.zeros(3_600 * 1_000, np.int16), 1_000)
    (folder / "text.wav").write_bytes(b"this is no audio" * 100)
    harness.clips |= {path.stem: path for path in folder.iterdir()}
    return folder


@pytest.mark.parametrize(
    ("params", "new_tokens"),
    [({"max_new_tokens": 2_048}, 2_048), ({"max_new_tokens": None, "duration_s": 600}, 30_003)],
    ids=str,
)
def test_music_longer_than_the_model_can_generate_is_refused(
    harness: EngineHarness, params: dict[str, Any], new_tokens: int
) -> None:
    error = harness.fail(**params)
    assert error.type == "too-long"
    assert error.text.code == "music-too-long"
    assert error.text.values == {"positions": 2_048, "used": 1, "free": 2_047, "new_tokens": new_tokens}
    for words in ("2048 positions", "max_new_tokens", "duration_s", "shorter"):
        assert words in error.detail


@pytest.mark.parametrize(
    ("backend", "precision", "offered"),
    [
        ("openvino", "float16", list_openvino_precisions()),
        ("mindspore", "float16", ("float32",)),
        ("mindspore", "int8", ("float32",)),
        ("mindnlp", "int4", ("float32",)),
    ],
)
def test_a_precision_that_the_backend_does_not_offer_is_refused(
    harness: EngineHarness, backend: str, precision: str, offered: tuple[str, ...]
) -> None:
    error = harness.fail(engine=harness.make_engine(backend), precision=precision)
    assert error.type == "precision-unavailable"
    choices = ", ".join(["auto", *offered])
    assert error.detail == (
        f"The backend {backend} does not offer the precision {precision} on cpu. Choose one of: {choices}."
    )


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
def test_a_clip_that_cannot_be_continued_is_refused(
    harness: EngineHarness, clip: dict[str, Any], params: dict[str, Any], error_type: str, words: list[str]
) -> None:
    error = harness.fail(audio_prompts=[clip], **params)
    assert error.type == error_type
    assert [word for word in words if word.casefold() not in error.detail.casefold()] == []


@pytest.mark.usefixtures("clip_folder")
def test_the_smallest_number_of_tokens_continues_a_clip_by_one_frame(harness: EngineHarness) -> None:
    run = harness.run(audio_prompts=[{"upload": "clip"}], max_new_tokens=4)
    assert run.read_codes().shape == (4, 11)
    assert run.samples[0]["duration_s"] == 0.22


@pytest.fixture
def broken(harness: EngineHarness) -> Path:
    """Copy a model into a folder with a new name, so that the test can damage the copy.

    If the name were the name of a loaded model, the engine would not read the damaged files.
    """
    harness.run()
    folder = harness.models / "someone" / make_id()
    shutil.copytree(harness.settings.home / "models" / TINY, folder)
    return folder


def change(folder: Path, change_tensors: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change_tensors(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def drop_tensor(folder: Path) -> None:
    change(folder, lambda tensors: tensors.pop("decoder.lm_heads.2.weight"))


def shorten_tensor(folder: Path) -> None:
    name = "enc_to_dec_proj.bias"
    change(folder, lambda tensors: tensors.update({name: tensors[name][:-1].copy()}))


def shorten_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def leave_only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def drop_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def damage_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop_tensor, ["decoder.lm_heads.2.weight", "download the model again"]),
        (shorten_tensor, ["enc_to_dec_proj.bias", "[63]", "[64]", "download the model again"]),
        (shorten_file, ["model.safetensors", "download the model again"]),
        (leave_only_pickles, ["pytorch_model.bin", "safe_serialization=True"]),
        (drop_tokenizer, ["tokenizer.json", "complete that folder"]),
        (damage_tokenizer, ["tokenizer.json", "download the model again"]),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(
    harness: EngineHarness, broken: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    damage(broken)
    error = harness.fail(model=f"someone/{broken.name}")
    assert error.type == "model-invalid"
    assert str(broken) in error.detail
    assert [word for word in words if word.casefold() not in error.detail.casefold()] == []


@pytest.mark.parametrize(
    ("backend", "tensor", "words"),
    [
        ("openvino", "decoder.lm_heads.0.weight", "At position 1"),
        ("openvino", "text_encoder.encoder.final_layer_norm.weight", "At position 1"),
        ("openvino", "audio_encoder.decoder.layers.0.conv.bias", "audio of sample 0"),
        ("mindspore", "decoder.lm_heads.0.weight", "At position 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # NumPy warns when NaN is cast to integers
def test_a_job_fails_if_the_weights_contain_nan(
    harness: EngineHarness, broken: Path, backend: str, tensor: str, words: str
) -> None:
    change(broken, lambda tensors: tensors[tensor].fill(np.nan))
    error = harness.fail(engine=harness.make_engine(backend), model=f"someone/{broken.name}")
    assert error.type == "not-finite"
    assert words in error.detail
    assert "another model" in error.detail


def test_an_unknown_model_is_refused_while_offline(
    harness: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    error = harness.fail(model="someone/unknown")
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
def test_every_backend_offers_float32_and_the_choice_auto_is_the_fastest_precision(
    harness: EngineHarness, device_class: DeviceClass, name: str, auto: Precision
) -> None:
    device = Device(device_class, 0)
    engine = MusicgenEngine(device, harness.settings)
    assert engine.name == name
    assert engine.choose_precision(Precision.AUTO) == auto
    backends = [backend.name for backend in BACKENDS if device_class in backend.device_classes]
    for each in (engine, *(harness.make_engine(backend, device) for backend in backends)):
        assert each.choose_precision(Precision.FLOAT32) == Precision.FLOAT32
