"""A description of the machine on which the figures are measured, without host names and paths."""

import os
import platform
from typing import Final

import psutil

from worker.engines.musicgen.backends.processor import CPU_INFO, read_processor_flags

INSTRUCTION_SETS: Final = {
    "AVX2": {"avx2"},
    "AVX-512F": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "BF16": {"avx512_bf16"},
    "AMX": {"amx_tile"},
}
"""The instruction sets that decide how fast matrices are multiplied.

For each instruction set, its flags in ``/proc/cpuinfo``: the processor has the instruction set if it has one of the
flags.
"""


def describe_machine() -> str:
    """Describe the processor, the memory and the system."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = psutil.virtual_memory().total / 2**30
    system = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    return f"{describe_processor(_read_cpu_info())}, {cores} cores, {memory_gib:.0f} GiB, {system}"


def describe_processor(cpu_info: str) -> str:
    """Return a string with the model of the processor, the `INSTRUCTION_SETS` that it has, and those that it lacks.

    Parameters
    ----------
    cpu_info
        The content of ``/proc/cpuinfo``.
    """
    lines = [line.partition(":") for line in cpu_info.splitlines()]
    model = next((value.strip() for name, _, value in lines if name.strip() == "model name"), "unknown processor")
    flags = read_processor_flags(cpu_info)
    if not flags:
        return model
    present = [name for name, any_of in INSTRUCTION_SETS.items() if flags & any_of]
    absent = [name for name in INSTRUCTION_SETS if name not in present]
    listed = [", ".join(present), *([f"without {', '.join(absent)}"] if absent else [])]
    return f"{model} ({'; '.join(part for part in listed if part)})"


def _read_cpu_info() -> str:
    try:
        return CPU_INFO.read_text(encoding="utf-8")
    except OSError:
        return ""
