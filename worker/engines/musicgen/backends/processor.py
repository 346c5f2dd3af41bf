"""Finds out which precisions OpenVINO offers on this machine's processor."""

from functools import cache
from pathlib import Path
from typing import Final

from shared.kinds.musicgen.parameters import Precision

CPU_INFO: Final = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS: Final = (
    frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
    frozenset({"avx_vnni", "avx_ne_convert"}),
)
"""If a processor has all flags of at least one of these sets, OpenVINO computes in bfloat16. A test compares
these sets with what OpenVINO itself reports."""


def read_processor_flags(cpu_info: str) -> frozenset[str]:
    """Read the processor's flags from the content of ``/proc/cpuinfo``."""
    line = next((line for line in cpu_info.splitlines() if line.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


def choose_openvino_precisions(flags: frozenset[str]) -> tuple[Precision, ...]:
    """Return the precisions that OpenVINO offers on a processor with these flags, the default first.

    If the processor does not support bfloat16, this precision is not offered: the paged attention of OpenVINO would
    fail with "expect kvcache type f32, current: bf16".
    """
    has_bfloat16 = any(needed <= flags for needed in _BFLOAT16_FLAGS)
    return (Precision.INT8, Precision.INT4, *([Precision.BFLOAT16] if has_bfloat16 else []), Precision.FLOAT32)


@cache
def list_openvino_precisions() -> tuple[Precision, ...]:
    """Return the precisions that OpenVINO offers on this machine.

    OpenVINO itself is not used for this, since the worker's parent process calls this function and must not load
    OpenVINO.
    """
    try:
        cpu_info = CPU_INFO.read_text()
    except OSError:
        cpu_info = ""
    return choose_openvino_precisions(read_processor_flags(cpu_info))
