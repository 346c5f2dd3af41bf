"""The decoder's graphs, compiled for this processor and kept on disk, so that a second start takes seconds."""

import hashlib
import logging
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import openvino as ov

from worker.engines.musicgen.configuration import DecoderConfig
from worker.engines.musicgen.paged import constants, graph
from worker.engines.musicgen.paged.graph import Builder
from worker.engines.musicgen.weights import Weights, list_files

DEVICE: Final = "CPU"
COMPUTES_IN: Final = {"float32": "f32", "bfloat16": "bf16", "int8": "f32", "int4": "f32"}
"""Precision of the weights to that of all that is computed with them."""

_SOURCES: Final = (constants.__file__, graph.__file__, __file__)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compiled:
    """The step's graph and the texts', ready to compute."""

    config: DecoderConfig
    step: Any
    texts: Any
    path: Path
    """Where the step's graph is kept."""

    @classmethod
    def load(cls, folder: Path, config: DecoderConfig, weights: Weights, precision: str, kept: Path) -> Self:
        """Read the graphs that an earlier start has kept, or compile and keep them.

        Parameters
        ----------
        folder
            The model's.
        kept
            Where compiled graphs are kept.
        """
        core = ov.Core()
        options = {
            "INFERENCE_PRECISION_HINT": COMPUTES_IN[precision],
            "KV_CACHE_PRECISION": COMPUTES_IN[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
            "ENABLE_CPU_PINNING": False,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32,
        }
        name = hash_origin(folder, precision, core.get_property(DEVICE, "FULL_DEVICE_NAME"))
        builder = Builder(config, weights, precision)

        paths = [kept / f"{name}-{part}.xml" for part in ("step", "texts")]
        step = _load(core, options, paths[0], config, builder.build_step)
        return cls(config, step, _load(core, options, paths[1], config, builder.build_texts), paths[0])


def hash_origin(folder: Path, precision: str, device: str) -> str:
    """Hash all that a compiled graph was made from; of the weights, when and how long each file was written."""
    stats = [(path.resolve(), path.stat()) for path in [*list_files(folder), folder / "config.json"]]
    origin = [
        *(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats),
        *(hashlib.sha256(Path(source).read_bytes()).hexdigest() for source in _SOURCES),
        precision,
        device,
        platform.machine(),
        ov.__version__,
    ]
    return hashlib.sha256("\n".join(origin).encode()).hexdigest()[:32]


def _load(
    core: ov.Core, options: dict[str, Any], path: Path, config: DecoderConfig, build: Callable[[], ov.Model]
) -> Any:
    if path.is_file():
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            logger.warning("%s cannot be read and is made again: %s", path, error)
        else:
            graph.tell_heads(model, config)
            return core.compile_model(model, DEVICE, options)
    model = build()
    _keep(model, path)
    return core.compile_model(model, DEVICE, options)


def _keep(model: ov.Model, path: Path) -> None:
    """Write a graph beside its place first, so that nobody reads half of one; the next start can do without."""
    partial = path.with_name(f"{os.getpid()}-{path.name}")
    weights = path.with_suffix(".bin")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ov.serialize(model, partial, partial.with_suffix(".bin"))
        partial.with_suffix(".bin").replace(weights)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        logger.warning("a compiled graph is not kept: %s", error)
        with suppress(OSError):  # where nothing can be written, nothing is left
            for left in (partial, partial.with_suffix(".bin")):
                left.unlink(missing_ok=True)
