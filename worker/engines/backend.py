"""What a backend declares: its device classes, its precisions, and how a process is prepared for the backend."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.jobs import DeviceClass
from worker.devices import Device


def accept_device(device: Device) -> None:
    """Do nothing: for backends that compute on every CPU and need neither a probe nor preparation."""


@dataclass(frozen=True)
class Backend:
    """What computes the jobs of a kind.

    Parameters
    ----------
    name
        The name that jobs show in their field ``engine``, and devices in their field ``engines``.
    device_classes
        The device classes that the backend computes on.
    is_installed
        Returns whether the libraries of the backend are installed; imports none of these libraries.
    list_precisions
        Returns the precisions that a device offers, the default first; returns an empty tuple if the kind has no choice
        of precision. This is called in the worker's parent process, which must not load a framework.
    probe
        Computes something on the device, in a process of its own, and raises ``DeviceMissingError`` if that fails. This
        is called when a worker starts.
    prepare_process
        Binds the worker's child process to the device, before the process loads a framework or a model.
    """

    name: str
    device_classes: frozenset[DeviceClass]
    is_installed: Callable[[], bool]
    list_precisions: Callable[[Device], tuple[str, ...]] = lambda _: ()
    probe: Callable[[Device], None] = accept_device
    prepare_process: Callable[[Device], None] = accept_device
