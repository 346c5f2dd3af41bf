"""The MusicGen engine as a worker runs it, with the model of the benchmark."""

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
def open_engine(folder: Path, compiled_folder: Path) -> Iterator[tuple[MusicgenEngine, Settings]]:
    """Pin this process to the device, and yield the engine with its settings, whose home is a temporary folder.

    Parameters
    ----------
    folder
        The folder of the model.
    compiled_folder
        The folder for compiled graphs.
    """
    pin_process(DEVICE, 1)
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as home:
        settings = Settings(home=Path(home), models_dir=Path(home))
        choose_backend(DEVICE.device_class, settings).prepare_process(DEVICE)
        link = Path(home, NAME)
        link.parent.mkdir()
        link.symlink_to(folder.absolute())
        settings.compiled.symlink_to(compiled_folder.absolute())
        engine = MusicgenEngine(DEVICE, settings)
        engine.prepare()
        yield engine, settings
