"""MindSpore's devices: binding a process to a device, and testing the device when a worker starts."""

import importlib.util
import subprocess
import sys
from typing import Final

from shared.errors import DeviceMissingError
from shared.jobs import DeviceClass
from shared.texts import text
from worker.devices import Device

_TARGETS: Final = {DeviceClass.ASCEND: "Ascend", DeviceClass.GPU: "GPU", DeviceClass.CPU: "CPU"}
PROBE_TIMEOUT_S: Final = 180.0


def is_installed() -> bool:
    """Return whether MindSpore is installed."""
    return importlib.util.find_spec("mindspore") is not None


def name_target(device_class: DeviceClass) -> str:
    """Return MindSpore's name of a device class."""
    return _TARGETS[device_class]


def select_device(device: Device) -> None:
    """Make MindSpore compute on the device; this cannot be changed afterwards."""
    # Only a worker's child process may load MindSpore: a process that has used MindSpore hangs when it forks.
    import mindspore  # noqa: PLC0415

    # The process sees only the device that it is pinned to, so the index of this device is 0.
    mindspore.set_device(_TARGETS[device.device_class], 0)
    if device.device_class is DeviceClass.ASCEND:
        # By default, some chips compute float32 in half precision; the engines choose their precision themselves.
        mindspore.device_context.ascend.op_precision.precision_mode("must_keep_origin_dtype")


def probe(device: Device) -> None:
    """Compute something on the device, in a process of its own, so that a worker without its device does not start.

    Raises
    ------
    DeviceMissingError
        MindSpore cannot compute on the device.
    """
    if device.device_class is DeviceClass.CPU:
        return
    command = [sys.executable, "-m", "worker.engines.mindspore_device", str(device)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        reason = (str(error.stderr or "").strip().splitlines() or ["it gave no reason"])[-1]
        raise DeviceMissingError(text("mindspore-cannot-compute", device=str(device), reason=reason)) from error


def _compute(device: Device) -> None:
    select_device(device)
    import mindspore  # noqa: PLC0415 - for the reason given in select_device

    total = float(mindspore.ops.ones((2,), mindspore.float32).sum().asnumpy())
    if total != 2:  # noqa: PLR2004 - 1 + 1
        raise DeviceMissingError(text("device-computes-wrong", device=str(device), total=total))


if __name__ == "__main__":
    _compute(Device.parse(sys.argv[1]))
