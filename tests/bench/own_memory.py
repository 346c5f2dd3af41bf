"""How much memory MusicGen jobs take, run by the engine as a worker runs them.

It runs in the application's environment, with a model in the layout of the hub::

    python -m tests.bench.own_memory FOLDER KEPT --duration-s 30 --jobs 1

and prints one JSON object per job. So that minutes become seconds, each job resumes what a lost attempt left: all
tokens but the last are known, and read into the caches, which so come to their full size.
"""

import argparse
import time
from pathlib import Path
from typing import Final

import psutil

from shared.kinds.musicgen.parameters import MusicgenParams
from tests.bench.own_engine import open_engine
from tests.bench.own_model import NAME, draw_known
from tests.bench.positions import PROMPT
from tests.bench.serving import write
from worker.engines.interface import JobContext
from worker.engines.musicgen.decoding import delay
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.resume_state import ResumeState

GENERATED: Final = 16


class LostAttempt:
    """A checkpoint of an attempt that was lost shortly before its end; see `worker.engines.interface.Checkpoint`."""

    def __init__(self, memo: ResumeState) -> None:
        self._content = memo.serialize()

    def load(self) -> bytes:
        """Return what it left."""
        return self._content

    def store(self, content: bytes) -> None:
        """Forget it."""


def run_jobs(folder: Path, kept: Path, duration_s: float, jobs: int) -> None:
    """Run jobs one after another, and print what the process takes after each."""
    config = ModelConfig.read(folder)
    frames = round(duration_s * config.codec.frame_rate)
    known = 1 + delay.count_new_tokens(frames, 0, config.decoder) - GENERATED
    with open_engine(folder, kept) as (engine, _):
        for job in range(jobs):
            memo = ResumeState(job, (draw_known(known, config.decoder, job),))
            params = MusicgenParams.model_validate({"model": NAME, "prompts": [PROMPT], "duration_s": duration_s})
            start_s = time.perf_counter()
            result = engine.run(JobContext(params, {}, lambda **_: None, lambda *_: None, LostAttempt(memo)))
            write(
                job=job,
                engine=f"{result['engine']}, {result['precision']}",
                took_s=time.perf_counter() - start_s,
                rss_bytes=psutil.Process().memory_info().rss,
            )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.own_memory")
    parser.add_argument("folder", type=Path, help="the model's")
    parser.add_argument("kept", type=Path, help="where compiled graphs are kept")
    parser.add_argument("--duration-s", type=float, default=30.0)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    run_jobs(arguments.folder, arguments.kept, arguments.duration_s, arguments.jobs)


if __name__ == "__main__":
    main()
