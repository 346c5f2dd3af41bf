"""The device that a worker is pinned to."""

import os
from dataclasses import dataclass
from typing import Final, Self

from shared.errors import DeviceMissingError
from shared.jobs import DeviceClass

_VISIBLE: Final = {DeviceClass.ASCEND: "ASCEND_RT_VISIBLE_DEVICES", DeviceClass.GPU: "CUDA_VISIBLE_DEVICES"}


@dataclass(frozen=True)
class Device:
    """One device of this machine, written ``cpu:0``."""

    device_class: DeviceClass
    index: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``CLASS:INDEX``.

        Raises
        ------
        ValueError
            With what would be right.
        """
        name, _, index = text.partition(":")
        if name not in set(DeviceClass) or not index.isdecimal():
            raise ValueError(f"{text!r} is not a device; write cpu:0, gpu:0 or ascend:0")
        return cls(DeviceClass(name), int(index))

    def __str__(self) -> str:
        return f"{self.device_class}:{self.index}"


def pin_process(device: Device, cpu_shares: int) -> None:
    """Let this process and its children see this device only. Must come before MindSpore is imported.

    Parameters
    ----------
    cpu_shares
        Into how many CPU devices the cores are divided.

    Raises
    ------
    DeviceMissingError
        There is no such share of the cores.
    """
    if device.device_class is not DeviceClass.CPU:
        os.environ[_VISIBLE[device.device_class]] = str(device.index)
        return
    if device.index >= cpu_shares:
        raise DeviceMissingError(
            f"{device} is not there: the cores of this machine are divided into {cpu_shares} "
            "(MINDJOBS_CPU_SHARES), counted from cpu:0."
        )
    cores = sorted(os.sched_getaffinity(0))
    share = cores[device.index * len(cores) // cpu_shares : (device.index + 1) * len(cores) // cpu_shares]
    if not share:
        raise DeviceMissingError(f"{device} is not there: {len(cores)} cores cannot be divided into {cpu_shares}.")
    os.sched_setaffinity(0, share)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(len(share))
