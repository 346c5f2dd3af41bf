"""The engine as a worker has it, with a model of the bench."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.settings import Settings
from tests.bench.own_model import DEVICE, NAME
from worker.devices import pin_process
from worker.engines.musicgen.backends.registry import choose_backend
from worker.engines.musicgen.engine import MusicgenEngine


@contextmanager
def open_engine(folder: Path, kept: Path) -> Iterator[tuple[MusicgenEngine, Settings]]:
    """Pin this process and open an engine, whose settings have a home of their own.

    Parameters
    ----------
    folder
        The model's.
    kept
        Where compiled graphs are kept.
    """
    pin_process(DEVICE, 1)
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as home:
        settings = Settings(home=Path(home), models_dir=Path(home))
        choose_backend(DEVICE.device_class, settings).prepare_process(DEVICE)
        link = Path(home, NAME)
        link.parent.mkdir()
        link.symlink_to(folder.absolute())
        settings.compiled.symlink_to(kept.absolute())
        engine = MusicgenEngine(DEVICE, settings)
        engine.prepare()
        yield engine, settings
