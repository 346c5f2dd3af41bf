"""Compiles graphs for this processor, and stores graphs on disk, so that a second start takes seconds.

The files have OpenVINO's own format and include the weights. OpenVINO maps the files
into memory. So if OpenVINO makes a reordered copy of some weights, only the copy takes
memory, and the original weights can stay on disk.
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

from shared.kinds.musicgen.catalogue import CONFIGURATION
from worker.engines.musicgen.backends.openvino.compile_options import list_options
from worker.engines.musicgen.backends.openvino.decoder_graph import DecoderGraphBuilder, set_head_sizes
from worker.engines.musicgen.backends.openvino.graph_sources import hash_sources
from worker.engines.musicgen.model.configuration import DecoderConfig
from worker.engines.musicgen.model.weights import Weights, list_files

DEVICE: Final = "CPU"
SOURCES_HASH: Final = hash_sources()
"""The hash of the source files that build the graphs.

It is computed when this module is imported. So it belongs to the code that this process runs, even if a new version is
installed while the process runs.
"""

logger = logging.getLogger(__name__)


class GraphCompiler:
    """Compiles the graphs of one model.

    Parameters
    ----------
    folder
        The model's folder.
    precision
        A key of ``compile_options.COMPUTE_PRECISIONS``.
    cache_folder
        The folder for stored graphs.
    """

    def __init__(self, folder: Path, precision: str, cache_folder: Path) -> None:
        self._core = ov.Core()
        self._options = list_options(precision)
        processor = self._core.get_property(DEVICE, "FULL_DEVICE_NAME")
        self._target = _hash(folder.resolve(), precision, processor, platform.machine())
        self._version = hash_version(folder)
        self._cache_folder = cache_folder

    def graph_path(self, name: str) -> Path:
        """Return the path of the file of a graph; the file need not exist."""
        return self._cache_folder / f"{self._target}-{self._version}-{name}.xml"

    def compile(
        self, name: str, build: Callable[[], ov.Model], annotate: Callable[[ov.Model], None] = lambda _: None
    ) -> Any:
        """Compile a graph. If an earlier start has stored the graph, read it; otherwise build it and store it.

        Parameters
        ----------
        annotate
            Adds to the graph the attributes that OpenVINO's files do not store.
        """
        path = self.graph_path(name)
        model = self._load(path)
        if model is None:
            model = build()
            if _store(model, path):
                self._remove_outdated()
                model = self._load(path) or model
        annotate(model)
        return self._core.compile_model(model, DEVICE, self._options)

    def _remove_outdated(self) -> None:
        """Remove the outdated graphs of the model in this precision.

        A graph is outdated if the weights, the code or the version of OpenVINO have changed since it was stored.
        """
        for path in self._cache_folder.glob(f"{self._target}-*"):
            if not path.name.startswith(f"{self._target}-{self._version}-"):
                path.unlink(missing_ok=True)

    def _load(self, path: Path) -> ov.Model | None:
        if not path.is_file():
            return None
        try:
            return self._core.read_model(path)
        except RuntimeError as error:
            logger.warning("the stored graph %s cannot be read and is built again: %s", path, error)
            return None


class LockedGraph:
    """A compiled graph that several threads may use, one at a time: two at a time would only share the same cores."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def compute(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the outputs of the graph; ``inputs`` are keyed by name."""
        with self._lock:
            return list(self._request.infer(inputs, share_inputs=True).values())


@dataclass(frozen=True)
class CompiledDecoder:
    """The two compiled graphs of the decoder: ``step`` computes a step, ``texts`` the keys and values of a text."""

    config: DecoderConfig
    step: Any
    texts: Any
    path: Path
    """The path of the file of the graph ``step``."""

    @classmethod
    def load(cls, folder: Path, config: DecoderConfig, weights: Weights, precision: str, cache_folder: Path) -> Self:
        """Load the graphs that an earlier start has stored; if there are none, build and store them.

        Parameters
        ----------
        folder
            The model's folder.
        cache_folder
            The folder for stored graphs.
        """
        compiler = GraphCompiler(folder, precision, cache_folder)
        builder = DecoderGraphBuilder(config, weights, precision)
        annotate = partial(set_head_sizes, config=config)
        step = compiler.compile("step", builder.build_step, annotate)
        texts = compiler.compile("texts", builder.build_texts, annotate)
        return cls(config, step, texts, compiler.graph_path("step"))


def hash_version(folder: Path) -> str:
    """Hash all that the graphs of a model depend on: the model's files, the service's code, and OpenVINO's version.

    The content of the model's files is not read: only their paths, sizes and times of the last change are hashed.
    """
    stats = [(path.resolve(), path.stat()) for path in [*list_files(folder), folder / CONFIGURATION]]
    return _hash(*(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats), SOURCES_HASH, ov.__version__)


def _hash(*words: object) -> str:
    return hashlib.sha256("\n".join(map(str, words)).encode()).hexdigest()[:20]


def _store(model: ov.Model, path: Path) -> bool:
    """Write the files of a graph under temporary names and rename them, so that no process reads an incomplete file.

    Returns
    -------
    Whether the graph has been stored.
    """
    temporary = path.with_name(f"{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ov.serialize(model, temporary, temporary.with_suffix(".bin"))
        temporary.with_suffix(".bin").replace(path.with_suffix(".bin"))
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        logger.warning("a graph cannot be stored: %s", error)
        with suppress(OSError):  # if the folder cannot be written to, there is no file to remove
            for leftover in (temporary, temporary.with_suffix(".bin")):
                leftover.unlink(missing_ok=True)
        return False
    return True
