"""What can be shown of other devices on a machine that has none."""

import subprocess
import sys

import numpy as np
import pytest
from mindspore import Tensor

from shared.database.migrate import ROOT
from worker.engines.musicgen.backends.mindspore.kv_cache import KvCache
from worker.engines.musicgen.backends.mindspore.layers import Target, take


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_the_decoder_compiles_as_for_an_ascend_npu(precision: str) -> None:
    compiled = subprocess.run(
        [sys.executable, "-m", "tests.unit.worker.engines.musicgen.backends.mindspore.precompile", precision],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr[-2000:]
    assert compiled.stdout.strip() == f"compiled for Target(device='Ascend', precision='{precision}')"


def test_a_devices_cache_is_written_like_the_cpus() -> None:
    """The operator that writes on other devices runs on the CPU as well, only slowly."""
    random = np.random.default_rng(0)
    shape = (3, 2, 8, 4)
    ours, theirs = (KvCache.make(Target(device), 2, shape) for device in ("CPU", "Ascend"))
    for positions in ([0, 0, 0], [1, 5, 7]):
        for layer in range(2):
            values = Tensor.from_numpy(random.standard_normal((3, 8), dtype=np.float32))
            for cache in (ours, theirs):
                cache.write(layer, np.arange(3, dtype=np.int32), np.array(positions, dtype=np.int32), values)
    for cache in (ours, theirs):
        cache.copy_row(2, 0)
    ours, theirs = ours.resize(4, 16), theirs.resize(4, 16)
    chunk = Tensor.from_numpy(random.standard_normal((6, 8), dtype=np.float32))
    for cache in (ours, theirs):
        cache.write(1, np.full(4, 2, dtype=np.int32), np.arange(8, 12, dtype=np.int32), chunk)
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert take(mine).any()
        np.testing.assert_array_equal(take(mine), take(other))
    for mine, other in zip(ours.take_row(2), theirs.take_row(2), strict=True):
        np.testing.assert_array_equal(take(mine), take(other))
    ours, theirs = ours.resize(2, 16), theirs.resize(2, 16)
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert take(mine).shape == (2, 2, 16, 4)
        np.testing.assert_array_equal(take(mine), take(other))
