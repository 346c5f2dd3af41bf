"""Music generation with MusicGen."""

from typing import Final

from shared.kinds.musicgen.parameters import MusicgenParams
from shared.settings import Settings
from worker.devices import Device
from worker.engines.interface import Engine
from worker.engines.musicgen.backends.registry import choose_backend
from worker.engines.spec import EngineSpec


def _make(device: Device, settings: Settings) -> Engine[MusicgenParams]:
    # This import loads NumPy, which must happen only after the process is pinned to its cores.
    from worker.engines.musicgen.engine import MusicgenEngine  # noqa: PLC0415

    return MusicgenEngine(device, settings)


ENGINE: Final = EngineSpec(choose_backend=choose_backend, make=_make)
