"""The service's own model, loaded as a worker loads it, and samples for it that are known up to some position."""

from pathlib import Path
from typing import Final

import numpy as np

from shared.jobs import DeviceClass
from shared.settings import Settings
from tests.bench.positions import GUIDANCE_SCALE, TEMPERATURE, TOP_K
from worker.devices import Device, pin_process
from worker.engines.musicgen.backends.registry import choose_backend
from worker.engines.musicgen.decoding import delay
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.model.configuration import DecoderConfig
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.pipeline import MusicgenPipeline
from worker.engines.musicgen.request import Sampling, Tokens

DEVICE: Final = Device(DeviceClass.CPU, 0)
NAME: Final = "bench/model"
OPENVINO: Final = "openvino"
MAX_SLOTS: Final = 16
SAMPLING: Final = Sampling(
    do_sample=True, guidance_scale=GUIDANCE_SCALE, temperature=TEMPERATURE, top_k=TOP_K, top_p=1.0
)


def load_composer(folder: Path, backend: str, precision: str, kept: Path) -> MusicgenPipeline:
    """Pin this process and load a model.

    Parameters
    ----------
    kept
        Where compiled graphs are kept.
    """
    pin_process(DEVICE, 1)
    settings = Settings(home=kept, musicgen_backend=backend)
    chosen = choose_backend(DEVICE.device_class, settings)
    chosen.prepare_process(DEVICE)
    limits = BatchLimits(MAX_SLOTS, settings.musicgen_cache_mb * 2**20)
    composer = chosen.import_loader()(ModelKey(NAME, folder, precision), DEVICE, limits, kept)
    if not isinstance(composer, MusicgenPipeline):
        raise TypeError(f"{backend} is not the service's own")
    return composer


def draw_known(known: int, config: DecoderConfig, seed: int) -> Tokens:
    """Draw the tokens of so many positions, the start token's included; a beginning of a longer sequence."""
    pattern = delay.build_pattern(None, known - 1 + max(config.delays), config)[:, :known]
    drawn = np.random.default_rng(seed).integers(config.vocabulary, size=pattern.shape, dtype=np.int32)
    tokens: Tokens = np.where(pattern == delay.TO_GENERATE, drawn, pattern)
    return tokens
