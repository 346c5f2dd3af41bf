"""The engine as a worker has it, with a model of the bench."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.jobs import DeviceClass, Kind
from shared.settings import Settings
from tests.bench.own_model import NAME
from worker import registry
from worker.devices import Device, pin_process, select_in_mindspore
from worker.engines.musicgen.engine import MusicgenEngine


@contextmanager
def open_engine(folder: Path, kept: Path, name: str = "auto") -> Iterator[tuple[MusicgenEngine, Settings]]:
    """Pin this process and open an engine, whose settings have a home of their own.

    Parameters
    ----------
    folder
        The model's.
    kept
        Where compiled graphs are kept.
    name
        As the setting ``musicgen_backend`` has it.
    """
    device = Device(DeviceClass.CPU, 0)
    pin_process(device, 1)
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as home:
        settings = Settings.model_validate({"home": home, "models_dir": home, "musicgen_backend": name})
        if registry.needs_mindspore([Kind.MUSICGEN], device.device_class, settings):
            select_in_mindspore(device)
        link = Path(home, NAME)
        link.parent.mkdir()
        link.symlink_to(folder.absolute())
        settings.compiled.symlink_to(kept.absolute())
        engine = MusicgenEngine(DeviceClass.CPU, settings)
        engine.prepare()
        yield engine, settings
