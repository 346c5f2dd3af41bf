"""The models that stay loaded between jobs, as many as the memory budget holds."""

import ctypes
import gc
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.tensors import count_bytes
from worker.engines.musicgen.request import MusicGenerator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelKey:
    """Which model, from which folder, in which numbers."""

    name: str
    folder: Path
    precision: str


class ModelCache:
    """Loaded models, the least recently used of which leave when a new one needs their room.

    Parameters
    ----------
    load
        Loads a model.
    max_bytes
        How much memory the weights may take together; one model is always let in.
    """

    def __init__(self, load: Callable[[ModelKey], MusicGenerator], max_bytes: int) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._composers: OrderedDict[ModelKey, MusicGenerator] = OrderedDict()

    def take(self, title: ModelKey) -> MusicGenerator:
        """Return a model, loaded.

        Raises
        ------
        JobFailedError
            Its files cannot be used.
        """
        if title not in self._composers:
            self._make_room(count_bytes(ModelConfig.read(title.folder)))
            self._composers[title] = self._load(title)
            logger.info("%s is loaded (%s)", title.name, title.precision)
        self._composers.move_to_end(title)
        return self._composers[title]

    def holds(self, title: ModelKey) -> bool:
        """Tell whether a model is loaded."""
        return title in self._composers

    def find(self, name: str, precision: str) -> MusicGenerator | None:
        """Return a model if it is loaded, from whatever folder."""
        wanted = (name, precision)
        composers = [*self._composers.items()]  # another thread may be loading one
        return next((held for title, held in composers if (title.name, title.precision) == wanted), None)

    def _make_room(self, wanted_bytes: int) -> None:
        left = False
        while self._composers and wanted_bytes + self._bytes_held > self._max_bytes:
            title, composer = self._composers.popitem(last=False)
            composer.close()
            del composer
            logger.info("%s leaves the memory", title.name)
            left = True
        if left:
            gc.collect()  # cells refer to themselves
            _give_back()

    @property
    def _bytes_held(self) -> int:
        return sum(count_bytes(composer.config) for composer in self._composers.values())


def _give_back() -> None:
    """Give freed memory back to the system: glibc keeps blocks of the size of weights for itself."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
