"""How much memory MusicGen jobs take, run by the engine as a worker runs them.

It runs in the application's environment, with a model in the layout of the hub::

    python -m tests.bench.native_memory FOLDER --duration-s 30 --jobs 1

and prints one JSON object per job. So that minutes become seconds, each job resumes what a lost attempt left: all
tokens but the last are known, and read into the caches, which so come to their full size.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from shared.jobs import DeviceClass
from shared.settings import Settings
from tests.bench.mindnlp_steps import PROMPT
from worker.devices import Device, pin_process, select_in_mindspore
from worker.engines.contract import Assignment
from worker.engines.musicgen import delay
from worker.engines.musicgen.composer import Tokens
from worker.engines.musicgen.configuration import DecoderConfig, ModelConfig
from worker.engines.musicgen.memo import Memo

GENERATED: Final = 16
NAME: Final = "bench/model"


class LostAttempt:
    """A checkpoint of an attempt that was lost shortly before its end; see `worker.engines.contract.Checkpoint`."""

    def __init__(self, memo: Memo) -> None:
        self._content = memo.write()

    def load(self) -> bytes:
        """Return what it left."""
        return self._content

    def store(self, content: bytes) -> None:
        """Forget it."""


def draw_known(frames: int, config: DecoderConfig, seed: int) -> Tokens:
    """Draw all tokens of a sample but those of the last positions."""
    pattern = delay.lay_out(None, delay.count_new_tokens(frames, 0, config), config)
    drawn = np.random.default_rng(seed).integers(config.vocabulary, size=pattern.shape, dtype=np.int32)
    known: Tokens = np.where(pattern == delay.TO_GENERATE, drawn, pattern)[:, :-GENERATED]
    return known


def read_peak_bytes() -> int:
    """Read this process's highest resident size; that of ``getrusage`` may be its parent's."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("the kernel does not tell the highest resident size")


def run_jobs(folder: Path, duration_s: float, jobs: int) -> None:
    """Run jobs one after another, and print what the process takes after each."""
    device = Device(DeviceClass.CPU, 0)
    pin_process(device, 1)
    select_in_mindspore(device)
    from worker.engines.musicgen.engine import MusicgenEngine

    config = ModelConfig.read(folder)
    frames = round(duration_s * config.codec.frame_rate)
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as home:
        link = Path(home, NAME)
        link.parent.mkdir()
        link.symlink_to(folder.absolute())
        engine = MusicgenEngine(DeviceClass.CPU, Settings(home=Path(home), models_dir=Path(home)))
        engine.prepare()
        for job in range(jobs):
            memo = Memo(job, (draw_known(frames, config.decoder, job),))
            params = {"model": NAME, "prompts": [PROMPT], "duration_s": duration_s}
            start_s = time.perf_counter()
            engine.run(Assignment(params, {}, lambda **_: None, lambda *_: None, LostAttempt(memo)))
            figures = {
                "job": job,
                "took_s": time.perf_counter() - start_s,
                "rss_bytes": psutil.Process().memory_info().rss,
                "peak_bytes": read_peak_bytes(),
            }
            sys.stdout.write(json.dumps(figures) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.native_memory")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--duration-s", type=float, default=30.0)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    run_jobs(arguments.folder, arguments.duration_s, arguments.jobs)


if __name__ == "__main__":
    main()
