"""The device that a worker is pinned to."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Final, Self

from shared.errors import DeviceMissingError
from shared.jobs import DeviceClass

_MINDSPORE_TARGETS: Final = {DeviceClass.ASCEND: "Ascend", DeviceClass.GPU: "GPU", DeviceClass.CPU: "CPU"}
_VISIBLE: Final = {DeviceClass.ASCEND: "ASCEND_RT_VISIBLE_DEVICES", DeviceClass.GPU: "CUDA_VISIBLE_DEVICES"}
PROBE_TIMEOUT_S: Final = 180.0


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


def select_in_mindspore(device: Device) -> None:
    """Make MindSpore compute on the device; it cannot be changed afterwards."""
    # Only a worker's child may load MindSpore: a fork after its first use hangs.
    import mindspore  # noqa: PLC0415

    # The pinning has left one device to see, so its index is 0.
    mindspore.set_device(_MINDSPORE_TARGETS[device.device_class], 0)
    if device.device_class is DeviceClass.ASCEND:
        # Some chips compute float32 in half precision unless told otherwise; engines choose their precision.
        mindspore.device_context.ascend.op_precision.precision_mode("must_keep_origin_dtype")


def probe(device: Device) -> None:
    """Compute something on the device, in a process of its own, so that a missing one stops the worker at its start.

    Raises
    ------
    DeviceMissingError
        MindSpore cannot compute on it.
    """
    if device.device_class is DeviceClass.CPU:
        return
    command = [sys.executable, "-m", "worker.devices", str(device)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        last = (str(error.stderr or "").strip().splitlines() or ["no answer"])[-1]
        raise DeviceMissingError(
            f"{device} is not there: MindSpore cannot compute on it ({last}). "
            "Check the driver and that this environment's MindSpore is built for it."
        ) from error


def _compute(device: Device) -> None:
    select_in_mindspore(device)
    import mindspore  # noqa: PLC0415 - as in select_in_mindspore

    total = mindspore.ops.ones((2,), mindspore.float32).sum()
    if total.asnumpy() != 2:  # noqa: PLR2004 - 1 + 1
        raise DeviceMissingError(f"{device} adds 1 and 1 to {total.asnumpy()}.")


if __name__ == "__main__":
    _compute(Device.parse(sys.argv[1]))
