"""The device that a worker is pinned to."""

import os
from dataclasses import dataclass
from typing import Final, Self

from shared.errors import DeviceMissingError
from shared.jobs import DeviceClass
from shared.texts import text

_VISIBLE_DEVICES: Final = {DeviceClass.ASCEND: "ASCEND_RT_VISIBLE_DEVICES", DeviceClass.GPU: "CUDA_VISIBLE_DEVICES"}


@dataclass(frozen=True)
class Device:
    """One device of this machine, written as ``cpu:0``, for example."""

    device_class: DeviceClass
    index: int

    @classmethod
    def parse(cls, name: str) -> Self:
        """Parse ``CLASS:INDEX``.

        Raises
        ------
        ValueError
            The name does not have this form; the message shows the form.
        """
        device_class, _, index = name.partition(":")
        if device_class not in set(DeviceClass) or not index.isdecimal():
            raise ValueError(f"{name!r} is not a device; write cpu:0, gpu:0 or ascend:0")
        return cls(DeviceClass(device_class), int(index))

    def __str__(self) -> str:
        return f"{self.device_class}:{self.index}"


def pin_process(device: Device, cpu_shares: int) -> None:
    """Restrict this process and its children to the device. Must be called before MindSpore is imported.

    Parameters
    ----------
    cpu_shares
        The number of CPU devices that the cores of this machine are divided into.

    Raises
    ------
    DeviceMissingError
        The index of the CPU device is ``cpu_shares`` or higher, or the device's share of the cores is empty.
    """
    if device.device_class is not DeviceClass.CPU:
        os.environ[_VISIBLE_DEVICES[device.device_class]] = str(device.index)
        return
    if device.index >= cpu_shares:
        raise DeviceMissingError(text("cpu-share-missing", device=str(device), cpu_shares=cpu_shares))
    cores = sorted(os.sched_getaffinity(0))
    share = cores[device.index * len(cores) // cpu_shares : (device.index + 1) * len(cores) // cpu_shares]
    if not share:
        raise DeviceMissingError(text("cpu-share-empty", device=str(device), cores=len(cores), cpu_shares=cpu_shares))
    os.sched_setaffinity(0, share)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(len(share))
