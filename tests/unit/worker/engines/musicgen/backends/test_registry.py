"""A music backend is one row in the registry, and the settings choose among the rows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import SettingsError
from shared.jobs import DeviceClass, Kind
from shared.kinds import KINDS
from shared.kinds.musicgen.parameters import Precision
from shared.settings import Settings
from tests.unit.worker.engines.musicgen.engine_harness import CPU, NEW_FRAMES, EngineHarness
from worker.devices import Device
from worker.engines import ENGINES
from worker.engines.musicgen.backends import processor, registry
from worker.engines.musicgen.backends.processor import choose_openvino_precisions
from worker.engines.musicgen.backends.registry import MusicBackend, choose_backend
from worker.engines.musicgen.decoding.decoder import OnCompile, TextStates, ignore_compiling
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.pipeline import BackendModel, MusicgenPipeline, OnProgress
from worker.engines.musicgen.request import Codes, Tokens


class ToyTextEncoder:
    """Encodes every prompt as zeros."""

    def __init__(self, config: ModelConfig) -> None:
        self._hidden = config.decoder.hidden

    def encode(self, ids: NDArray[np.int32]) -> TextStates:
        return TextStates(np.zeros((len(ids), self._hidden), dtype=np.float32))


class ToyCodec:
    """Decodes each frame to a constant: the code of the first codebook, divided by the size of the codebook."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config.codec

    def encode(self, audio: NDArray[np.float32], on_progress: OnProgress) -> Codes:
        raise NotImplementedError

    def decode(self, codes: Codes, on_progress: OnProgress) -> NDArray[np.float32]:
        on_progress()
        return np.repeat(codes[0] / np.float32(self._config.codebook_size), self._config.hop).astype(np.float32)


class ToyDecoder:
    """Predicts, for every codebook, the token whose number equals the predicted position."""

    max_chunk = 16

    def __init__(self, config: ModelConfig) -> None:
        self.on_compile: OnCompile = ignore_compiling
        self._config = config.decoder
        self._admitted = 0

    def count_bytes(self, length: int) -> int:
        return length

    def admit(self, text: TextStates | None, length: int) -> int:  # noqa: ARG002 - no slot has a state
        self._admitted += 1
        return self._admitted

    def drop(self, slot: int) -> None:
        pass

    def feed(self, slot: int, tokens: Tokens, position: int) -> None:
        pass

    def step(
        self, slots: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        logits = np.zeros((len(slots), tokens.shape[1], self._config.vocabulary), dtype=np.float32)
        logits[np.arange(len(slots)), :, positions + 1] = 1
        return logits


def load_generator(key: ModelKey, device: Device, limits: BatchLimits, compiled: Path) -> MusicgenPipeline:  # noqa: ARG001 - nothing is compiled
    def load(config: ModelConfig) -> BackendModel:
        return BackendModel(ToyTextEncoder(config), ToyCodec(config), ToyDecoder(config), 4, close=lambda: None)

    return MusicgenPipeline(key.folder, "toy", key.precision, load, limits)


TOY = MusicBackend(
    name="toy",
    device_classes=frozenset({DeviceClass.CPU}),
    is_installed=lambda: True,
    list_precisions=lambda _: (Precision.FLOAT16, Precision.FLOAT32),
    import_loader=lambda: load_generator,
)


@pytest.mark.parametrize("setting", ["auto", "toy"])
def test_a_backend_is_added_by_one_row_of_the_registry(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setattr(registry, "BACKENDS", (TOY, *registry.BACKENDS))
    engine = harness.make_engine(setting)
    run = harness.run(engine=engine, do_sample=False)
    assert (engine.name, run.result["engine"], run.result["precision"]) == ("toy", "toy", "float16")
    positions = np.arange(1, 1 + NEW_FRAMES)
    np.testing.assert_array_equal(run.read_codes(), [positions + delay for delay in range(4)])
    np.testing.assert_array_equal(run.read_audio(), [np.repeat(positions / np.float32(2_048), 640)])
    shown = ENGINES[Kind.MUSICGEN].choose_backend(DeviceClass.CPU, harness.make_settings(setting))
    assert (shown.name, shown.list_precisions(CPU)) == ("toy", ("float16", "float32"))


def test_the_setting_auto_selects_the_first_installed_backend_for_the_device_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = replace(TOY, name="missing", is_installed=lambda: False)
    gpu_only = replace(TOY, name="gpu-only", device_classes=frozenset({DeviceClass.GPU}))
    monkeypatch.setattr(registry, "BACKENDS", (missing, gpu_only, TOY))
    settings = Settings(musicgen_backend="auto")
    assert choose_backend(DeviceClass.CPU, settings).name == "toy"
    assert choose_backend(DeviceClass.GPU, settings).name == "gpu-only"


def test_the_backend_of_the_setting_is_selected_although_the_registry_prefers_another_backend() -> None:
    assert choose_backend(DeviceClass.CPU, Settings(musicgen_backend="mindspore")).name == "mindspore"


@pytest.mark.parametrize(
    ("backend", "device_class", "choices"),
    [
        ("unknown", DeviceClass.CPU, "auto, openvino, mindspore, mindnlp"),
        ("openvino", DeviceClass.GPU, "auto, mindspore"),
    ],
)
def test_a_backend_that_is_unknown_or_does_not_support_the_device_class_is_refused(
    backend: str, device_class: DeviceClass, choices: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        choose_backend(device_class, Settings(musicgen_backend=backend))
    assert caught.value.text.code == "musicgen-backend-unavailable"
    assert caught.value.text.values == {"backend": backend, "device_class": device_class, "choices": choices}


@pytest.mark.parametrize("device_class", list(DeviceClass))
def test_submissions_know_every_precision_that_a_backend_can_have(
    device_class: DeviceClass, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})
    monkeypatch.setattr(processor, "list_openvino_precisions", lambda: choose_openvino_precisions(flags))
    backends = [backend for backend in registry.BACKENDS if device_class in backend.device_classes]
    possible = {each for backend in backends for each in backend.list_precisions(Device(device_class, 0))}
    assert possible == {*KINDS[Kind.MUSICGEN].precisions[device_class]}
