"""Engine specs for tests, like the entries of the worker's registry `worker.engines.ENGINES`."""

from collections.abc import Callable
from typing import Any

from shared.jobs import DeviceClass
from worker.devices import Device
from worker.engines.backend import Backend, accept_device
from worker.engines.interface import Engine
from worker.engines.spec import EngineSpec


def make_engine_spec(
    make: Callable[[], Engine[Any]],
    *,
    name: str = "fake",
    precisions: tuple[str, ...] = (),
    probe: Callable[[Device], None] = accept_device,
    prepare_process: Callable[[Device], None] = accept_device,
) -> EngineSpec[Any]:
    """Describe an engine whose only backend computes on every device and needs no framework.

    Parameters
    ----------
    name
        The name of the backend.
    """
    backend = Backend(
        name=name,
        device_classes=frozenset(DeviceClass),
        is_installed=lambda: True,
        list_precisions=lambda _: precisions,
        probe=probe,
        prepare_process=prepare_process,
    )
    return EngineSpec(choose_backend=lambda *_: backend, make=lambda *_: make())
