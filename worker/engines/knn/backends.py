"""The backends that compute k nearest neighbours."""

from typing import Final

from shared.jobs import DeviceClass
from shared.settings import Settings
from worker.engines import mindspore_device
from worker.engines.backend import Backend

MINDSPORE: Final = Backend(
    name="mindspore",
    device_classes=frozenset(DeviceClass),
    is_installed=mindspore_device.is_installed,
    probe=mindspore_device.probe,
    prepare_process=mindspore_device.select_device,
)
BACKENDS: Final = (MINDSPORE,)
"""All backends, the preferred backend first."""


def choose_backend(device_class: DeviceClass, settings: Settings) -> Backend:  # noqa: ARG001 - no setting for it yet
    """Return the preferred backend for a class of device."""
    return next(backend for backend in BACKENDS if device_class in backend.device_classes)
