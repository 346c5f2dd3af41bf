"""Graphs, compiled for this processor and kept on disk, so that a second start takes seconds.

What is kept is what OpenVINO reads, weights included: it maps the file, so that
weights that it has laid out anew for itself take no memory twice.
"""

import hashlib
import logging
import os
import platform
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from worker.engines.musicgen.backends.openvino import decoder_graph
from worker.engines.musicgen.backends.openvino.decoder_graph import Builder
from worker.engines.musicgen.codec import windows
from worker.engines.musicgen.model import seanet, sinusoids
from worker.engines.musicgen.model.configuration import DecoderConfig
from worker.engines.musicgen.model.weights import Weights, list_files

DEVICE: Final = "CPU"
COMPUTES_IN: Final = {"float32": "f32", "bfloat16": "bf16", "int8": "f32", "int4": "f32"}
"""Precision of the weights to that of all that is computed with them."""
CACHES_IN: Final = {"float32": "f32", "bfloat16": "bf16", "int8": "f16", "int4": "f16"}
"""The same to that of keys and values: half as many bytes to read, rounded far less than the weights are."""

_SOURCES: Final = (
    *map(str, sorted(Path(__file__).parent.glob("*.py"))),
    *(sinusoids.__file__, seanet.__file__, windows.__file__),
)

logger = logging.getLogger(__name__)


class GraphCompiler:
    """Compiles a model's graphs.

    Parameters
    ----------
    folder
        The model's.
    precision
        A key of ``COMPUTES_IN``.
    kept
        Where graphs are kept.
    """

    def __init__(self, folder: Path, precision: str, kept: Path) -> None:
        self._core = ov.Core()
        self._options = {
            "INFERENCE_PRECISION_HINT": COMPUTES_IN[precision],
            "KV_CACHE_PRECISION": CACHES_IN[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
            "ENABLE_CPU_PINNING": False,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32,
        }
        processor = self._core.get_property(DEVICE, "FULL_DEVICE_NAME")
        self._purpose = _hash(folder.resolve(), precision, processor, platform.machine())
        self._origin = hash_origin(folder)
        self._kept = kept

    def place(self, name: str) -> Path:
        """Tell where a graph is kept."""
        return self._kept / f"{self._purpose}-{self._origin}-{name}.xml"

    def compile(
        self, name: str, build: Callable[[], ov.Model], complete: Callable[[ov.Model], None] = lambda _: None
    ) -> Any:
        """Compile the graph that an earlier start has kept, or build and keep it.

        Parameters
        ----------
        complete
            Adds what OpenVINO's files do not keep.
        """
        path = self.place(name)
        model = self._read(path)
        if model is None:
            model = build()
            if _keep(model, path):
                self._forget_others()
                model = self._read(path) or model
        complete(model)
        return self._core.compile_model(model, DEVICE, self._options)

    def _forget_others(self) -> None:
        """Remove what was kept for the same purpose of other origin: of a model or a version that has been replaced."""
        for path in self._kept.glob(f"{self._purpose}-*"):
            if not path.name.startswith(f"{self._purpose}-{self._origin}-"):
                path.unlink(missing_ok=True)

    def _read(self, path: Path) -> ov.Model | None:
        if not path.is_file():
            return None
        try:
            return self._core.read_model(path)
        except RuntimeError as error:
            logger.warning("%s cannot be read and is made again: %s", path, error)
            return None


class Part:
    """A compiled graph that several threads may use, one at a time: there are no more cores for them together."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def compute(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the outputs from the inputs, by name."""
        with self._lock:
            return list(self._request.infer(inputs, share_inputs=True).values())


@dataclass(frozen=True)
class CompiledModel:
    """The decoder's graphs, the step's and the texts', ready to compute."""

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
        compiler = GraphCompiler(folder, precision, kept)
        builder = Builder(config, weights, precision)
        complete = partial(decoder_graph.tell_heads, config=config)
        step = compiler.compile("step", builder.build_step, complete)
        texts = compiler.compile("texts", builder.build_texts, complete)
        return cls(config, step, texts, compiler.place("step"))


def hash_origin(folder: Path) -> str:
    """Hash all that graphs are made from; of the weights, when and how long each file was written."""
    stats = [(path.resolve(), path.stat()) for path in [*list_files(folder), folder / "config.json"]]
    return _hash(
        *(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats),
        *(hashlib.sha256(Path(source).read_bytes()).hexdigest() for source in _SOURCES),
        ov.__version__,
    )


def _hash(*words: object) -> str:
    return hashlib.sha256("\n".join(map(str, words)).encode()).hexdigest()[:20]


def _keep(model: ov.Model, path: Path) -> bool:
    """Write a graph beside its place first, so that nobody reads half of one; tell whether that went well."""
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
        return False
    return True
