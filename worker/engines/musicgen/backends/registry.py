"""The backends for music, one entry of ``BACKENDS`` each. This module does not import the backends' frameworks."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.errors import SettingsError
from shared.jobs import AUTO, DeviceClass
from shared.kinds.musicgen.parameters import Precision
from shared.settings import Settings
from shared.texts import text
from worker.devices import Device
from worker.engines import mindspore_device
from worker.engines.backend import Backend
from worker.engines.musicgen.backends import processor

if TYPE_CHECKING:
    from worker.engines.musicgen.decoding.scheduler import BatchLimits
    from worker.engines.musicgen.model_cache import ModelKey
    from worker.engines.musicgen.request import MusicGenerator

_MINDSPORE_PRECISIONS: Final = {
    DeviceClass.CPU: (Precision.FLOAT32,),  # on CPUs, MindSpore's matrix products are not faster in half precision
    DeviceClass.GPU: (Precision.FLOAT16, Precision.FLOAT32),
    DeviceClass.ASCEND: (Precision.FLOAT16, Precision.BFLOAT16, Precision.FLOAT32),
}

Load = Callable[["ModelKey", Device, "BatchLimits", Path], "MusicGenerator"]
"""Loads a model. Its arguments: the model, the device, the limits of the batch, and the folder for compiled graphs."""


@dataclass(frozen=True, kw_only=True)
class MusicBackend(Backend):
    """A backend for music.

    Parameters
    ----------
    import_loader
        Imports the framework, and returns the function that loads a model. It is called only in a worker's child
        process.
    """

    import_loader: Callable[[], Load]


def _import_openvino() -> Load:
    from worker.engines.musicgen.backends.openvino.model import load_generator  # noqa: PLC0415 - loads OpenVINO

    return load_generator


def _import_mindspore() -> Load:
    from worker.engines.musicgen.backends.mindspore.model import load_generator  # noqa: PLC0415 - loads MindSpore

    return load_generator


def _import_mindnlp() -> Load:
    """Import MindNLP.

    The import takes ten seconds and changes the process permanently, so it is done only for jobs that use MindNLP.
    """
    from worker.engines.musicgen.backends.mindnlp.backend import load_generator  # noqa: PLC0415

    return load_generator


BACKENDS: Final[tuple[MusicBackend, ...]] = (
    MusicBackend(
        name="openvino",
        device_classes=frozenset({DeviceClass.CPU}),
        is_installed=lambda: importlib.util.find_spec("openvino") is not None,
        list_precisions=lambda _: processor.list_openvino_precisions(),
        import_loader=_import_openvino,
    ),
    MusicBackend(
        name="mindspore",
        device_classes=frozenset(DeviceClass),
        is_installed=mindspore_device.is_installed,
        list_precisions=lambda device: _MINDSPORE_PRECISIONS[device.device_class],
        probe=mindspore_device.probe,
        prepare_process=mindspore_device.select_device,
        import_loader=_import_mindspore,
    ),
    MusicBackend(
        name="mindnlp",
        device_classes=frozenset({DeviceClass.CPU}),
        is_installed=lambda: importlib.util.find_spec("mindnlp") is not None,
        list_precisions=lambda _: (Precision.FLOAT32,),
        probe=mindspore_device.probe,
        prepare_process=mindspore_device.select_device,
        import_loader=_import_mindnlp,
    ),
)
"""The backends in order of preference: ``auto`` selects the first backend that is installed and supports the device
class."""


def choose_backend(device_class: DeviceClass, settings: Settings) -> MusicBackend:
    """Return the backend that the settings name; if they name ``auto``, the preferred backend for the device class.

    Raises
    ------
    SettingsError
        The backend that the settings name does not exist or does not support the device class. With ``auto``: no
        backend that supports the device class is installed.
    """
    wanted = settings.musicgen_backend
    usable = [backend for backend in BACKENDS if device_class in backend.device_classes]
    if wanted == AUTO:
        usable = [backend for backend in usable if backend.is_installed()]
    else:
        usable = [backend for backend in usable if backend.name == wanted]
    if not usable:
        choices = [AUTO, *(backend.name for backend in BACKENDS if device_class in backend.device_classes)]
        raise SettingsError(
            text("musicgen-backend-unavailable", backend=wanted, device_class=device_class, choices=", ".join(choices))
        )
    return usable[0]
