"""The options with which OpenVINO compiles graphs: precisions, threads, and the rounding of activations."""

import os
from typing import Any, Final

COMPUTE_PRECISIONS: Final = {"float32": "f32", "bfloat16": "bf16", "int8": "f32", "int4": "f32"}
"""For each precision of the weights, the precision in which OpenVINO computes."""
KV_CACHE_PRECISIONS: Final = {"float32": "f32", "bfloat16": "bf16", "int8": "f16", "int4": "f16"}
"""For each precision of the weights, the precision of the stored keys and values. With f16, half as many bytes are read
as with f32, and keys and values are rounded far less than the weights are."""


def list_options(precision: str) -> dict[str, Any]:
    """Return the options of OpenVINO for a precision of the weights, a key of ``COMPUTE_PRECISIONS``."""
    return {
        "INFERENCE_PRECISION_HINT": COMPUTE_PRECISIONS[precision],
        "KV_CACHE_PRECISION": KV_CACHE_PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        "ENABLE_CPU_PINNING": False,
        # If the processor has VNNI, activations are rounded to a byte, with a scale for each group of this size.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32,
    }
