"""The models that stay loaded between jobs, as many as fit into the memory budget."""

import ctypes
import gc
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.download_cache import hold_model
from worker.engines.musicgen.model.tensors import count_bytes
from worker.engines.musicgen.request import MusicGenerator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelKey:
    """A model, the folder of its files, and the precision in which it computes."""

    name: str
    folder: Path
    precision: str


class ModelCache:
    """Loaded models; the least recently used models are evicted if a new model needs their memory.

    While a model is loaded, no process deletes its files.

    Parameters
    ----------
    load
        Loads a model.
    max_bytes
        How much memory the weights of all loaded models may take. A model that is larger is loaded, too, but alone.
    """

    def __init__(self, load: Callable[[ModelKey], MusicGenerator], max_bytes: int) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._generators: OrderedDict[ModelKey, MusicGenerator] = OrderedDict()
        self._holds: dict[ModelKey, ExitStack] = {}

    def get(self, key: ModelKey) -> MusicGenerator:
        """Return a model; load it first if it is not loaded.

        Raises
        ------
        JobFailedError
            The files of the model cannot be used.
        """
        if key not in self._generators:
            self._evict_for(count_bytes(ModelConfig.read(key.folder)))
            with ExitStack() as hold:
                hold.enter_context(hold_model(key.folder))
                self._generators[key] = self._load(key)
                self._holds[key] = hold.pop_all()
            logger.info("%s is loaded (%s)", key.name, key.precision)
        self._generators.move_to_end(key)
        return self._generators[key]

    def is_loaded(self, key: ModelKey) -> bool:
        """Return whether a model is loaded."""
        return key in self._generators

    def find(self, name: str, precision: str) -> MusicGenerator | None:
        """Return the loaded model with this name and precision, from any folder; ``None`` if there is none."""
        wanted = (name, precision)
        loaded = [*self._generators.items()]  # a copy, since another thread may be loading a model
        return next((generator for key, generator in loaded if (key.name, key.precision) == wanted), None)

    def _evict_for(self, wanted_bytes: int) -> None:
        """Evict models until a model with ``wanted_bytes`` of weights fits, or no model is left."""
        evicted = False
        while self._generators and wanted_bytes + self._loaded_bytes > self._max_bytes:
            key, generator = self._generators.popitem(last=False)
            generator.close()
            self._holds.pop(key).close()
            del generator
            logger.info("%s is evicted from memory", key.name)
            evicted = True
        if evicted:
            gc.collect()  # MindSpore's cells are in reference cycles, so only the collector frees them
            _trim_heap()

    @property
    def _loaded_bytes(self) -> int:
        return sum(count_bytes(generator.config) for generator in self._generators.values())


def _trim_heap() -> None:
    """Return freed memory to the system: otherwise glibc keeps freed blocks that are as large as weights."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
