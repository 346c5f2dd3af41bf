"""What a backend declares: its devices and precisions, and how a process is prepared for it."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.jobs import DeviceClass
from worker.devices import Device


def accept_device(device: Device) -> None:
    """Do nothing: for backends that compute on every CPU and need no preparation."""


@dataclass(frozen=True)
class Backend:
    """What computes the jobs of a kind.

    Parameters
    ----------
    name
        As jobs and ``GET /devices`` show it (their field is ``engine``).
    device_classes
        The classes of device that it computes on.
    is_installed
        Returns whether its libraries are installed; imports none of them.
    list_precisions
        Returns the precisions that a device offers, the default first; none if the kind has no choice of precision.
        It is called in the worker's parent process, which must not load a framework.
    probe
        Computes something on the device, in a process of its own, and raises ``DeviceMissingError`` if that fails. It
        is called when a worker starts.
    prepare_process
        Binds the worker's child process to the device, before anything is loaded.
    """

    name: str
    device_classes: frozenset[DeviceClass]
    is_installed: Callable[[], bool]
    list_precisions: Callable[[Device], tuple[str, ...]] = lambda _: ()
    probe: Callable[[Device], None] = accept_device
    prepare_process: Callable[[Device], None] = accept_device
