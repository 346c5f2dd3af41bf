"""What computes music on which device, and in which numbers. Imports nothing that computes."""

import importlib.util
from enum import StrEnum
from typing import Final

from shared.jobs import AUTO, DeviceClass
from shared.kinds.musicgen.parameters import Precision


class Engine(StrEnum):
    """What computes; each offers some precisions, the first of which is ``auto``."""

    OPENVINO = "openvino"
    MINDSPORE = "mindspore"
    MINDNLP = "mindnlp"


_MINDSPORE: Final = {
    DeviceClass.CPU: (Precision.FLOAT32,),  # its products on CPUs know no fast half precision
    DeviceClass.GPU: (Precision.FLOAT16, Precision.FLOAT32),
    DeviceClass.ASCEND: (Precision.FLOAT16, Precision.BFLOAT16, Precision.FLOAT32),
}


def choose_engine(wanted: str, device: DeviceClass) -> Engine:
    """Say what computes: what the setting names, or the fastest that is installed for the device."""
    if wanted != AUTO:
        return Engine(wanted)
    fast = device is DeviceClass.CPU and importlib.util.find_spec("openvino") is not None
    return Engine.OPENVINO if fast else Engine.MINDSPORE


def list_precisions(engine: Engine, device: DeviceClass) -> tuple[Precision, ...]:
    """List the precisions that an engine offers on a device."""
    if engine is Engine.OPENVINO:
        return Precision.INT8, Precision.INT4, Precision.BFLOAT16, Precision.FLOAT32
    return _MINDSPORE[device] if engine is Engine.MINDSPORE else (Precision.FLOAT32,)
