"""What the worker must know of the engine of a kind of job; see ``docs/adding-a-kind.md``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.jobs import DeviceClass
from shared.settings import Settings
from worker.devices import Device
from worker.engines.backend import Backend
from worker.engines.interface import Engine

P = TypeVar("P")


@dataclass(frozen=True)
class EngineSpec(Generic[P]):
    """The engine of one kind of job.

    Parameters
    ----------
    choose_backend
        Returns the backend that computes on a device class; imports no framework. Raises ``SettingsError`` if the
        settings name a backend that does not exist or does not compute on this device class.
    make
        Makes the engine. It may import the engine's framework, so it is called in a worker's child process only.
    """

    choose_backend: Callable[[DeviceClass, Settings], Backend]
    make: Callable[[Device, Settings], Engine[P]]
