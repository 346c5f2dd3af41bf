"""A model that is loaded as a worker loads it, and random tokens for the known positions of sequences."""

from pathlib import Path
from typing import Final

import numpy as np

from shared.jobs import DeviceClass
from shared.kinds.musicgen.lengths import list_delays
from shared.settings import Settings
from tests.bench.workload import GUIDANCE_SCALE, TEMPERATURE, TOP_K
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
MINDSPORE: Final = "mindspore"
MAX_SLOTS: Final = 16
SAMPLING: Final = Sampling(
    do_sample=True, guidance_scale=GUIDANCE_SCALE, temperature=TEMPERATURE, top_k=TOP_K, top_p=1.0
)


def load_pipeline(folder: Path, backend_name: str, precision: str, compiled_folder: Path) -> MusicgenPipeline:
    """Pin this process to the device and load a model.

    Parameters
    ----------
    folder
        The folder of the model.
    backend_name
        ``OPENVINO`` or ``MINDSPORE``.
    compiled_folder
        The folder for compiled graphs.
    """
    pin_process(DEVICE, 1)
    settings = Settings(home=compiled_folder, musicgen_backend=backend_name)
    backend = choose_backend(DEVICE.device_class, settings)
    backend.prepare_process(DEVICE)
    limits = BatchLimits(MAX_SLOTS, settings.musicgen_cache_mb * 2**20)
    generator = backend.import_loader()(ModelKey(NAME, folder, precision), DEVICE, limits, compiled_folder)
    if not isinstance(generator, MusicgenPipeline):
        raise TypeError(f"{backend_name} has no pipeline of the service's own")
    return generator


def draw_known(known: int, config: DecoderConfig, seed: int) -> Tokens:
    """Return the tokens of the first positions of a longer sequence: the start token, and random tokens after it.

    Parameters
    ----------
    known
        The number of these positions, including that of the start token.
    """
    pattern = delay.build_pattern(None, known - 1 + max(list_delays(config)), config)[:, :known]
    drawn = np.random.default_rng(seed).integers(config.vocabulary, size=pattern.shape, dtype=np.int32)
    tokens: Tokens = np.where(pattern == delay.TO_GENERATE, drawn, pattern)
    return tokens
