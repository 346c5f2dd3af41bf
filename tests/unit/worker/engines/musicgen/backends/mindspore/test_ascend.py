"""Tests of the code for an Ascend NPU that can run on a machine without an NPU."""

import subprocess
import sys

import numpy as np
import pytest
from mindspore import Tensor

from shared.database.migrate import ROOT
from worker.engines.musicgen.backends.mindspore.kv_cache import KvCache
from worker.engines.musicgen.backends.mindspore.layers import Target, to_numpy


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_decoder_compiles_for_an_ascend_npu(precision: str) -> None:
    compiled = subprocess.run(
        [sys.executable, "-m", "tests.unit.worker.engines.musicgen.backends.mindspore.precompile", precision],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr[-2000:]
    assert compiled.stdout.strip() == f"compiled for Target(device='Ascend', precision='{precision}')"


def test_cache_of_an_ascend_npu_is_written_like_the_cache_of_a_cpu() -> None:
    """On devices other than the CPU, an operator writes the cache. This operator also runs on the CPU, but slowly."""
    random = np.random.default_rng(0)
    shape = (3, 2, 8, 4)
    cpu, ascend = (KvCache.allocate(Target(device), 2, shape) for device in ("CPU", "Ascend"))
    for positions in ([0, 0, 0], [1, 5, 7]):
        for layer in range(2):
            values = Tensor.from_numpy(random.standard_normal((3, 8), dtype=np.float32))
            for cache in (cpu, ascend):
                cache.write(layer, np.arange(3, dtype=np.int32), np.array(positions, dtype=np.int32), values)
    for cache in (cpu, ascend):
        cache.copy_row(2, 0)
    cpu, ascend = cpu.resize(4, 16), ascend.resize(4, 16)
    chunk = Tensor.from_numpy(random.standard_normal((6, 8), dtype=np.float32))
    for cache in (cpu, ascend):
        cache.write(1, np.full(4, 2, dtype=np.int32), np.arange(8, 12, dtype=np.int32), chunk)
    for expected, found in zip(cpu.tensors, ascend.tensors, strict=True):
        assert to_numpy(expected).any()
        np.testing.assert_array_equal(to_numpy(found), to_numpy(expected))
    for expected, found in zip(cpu.get_row(2), ascend.get_row(2), strict=True):
        np.testing.assert_array_equal(to_numpy(found), to_numpy(expected))
    cpu, ascend = cpu.resize(2, 16), ascend.resize(2, 16)
    for expected, found in zip(cpu.tensors, ascend.tensors, strict=True):
        assert to_numpy(expected).shape == (2, 2, 16, 4)
        np.testing.assert_array_equal(to_numpy(found), to_numpy(expected))
