"""How much memory MusicGen jobs take; the engine runs the jobs as in a worker.

This program runs in the environment of the application, and reads a model in the layout of the Hugging Face hub::

    python -m tests.bench.own_memory FOLDER COMPILED_FOLDER --duration-s 30 --jobs 1

It prints one JSON object per job. So that a job takes seconds instead of minutes, it resumes from the checkpoint of a
lost attempt: all tokens except the last ``GENERATED`` are known. The known tokens are read into the caches, so that the
caches reach their full size.

``--samples 64`` generates 64 samples per job. Each sample is written before the next one is decoded, so the peak must
be little more than that of a job of one sample.
"""

import argparse
import resource
import time
from pathlib import Path
from typing import Final

import psutil

from shared.kinds.musicgen.lengths import count_tokens
from shared.kinds.musicgen.parameters import MusicgenParams
from tests.bench.own_engine import open_engine
from tests.bench.own_model import NAME, draw_known
from tests.bench.serving import print_figures
from tests.bench.workload import PROMPT
from worker.engines.interface import JobContext
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.music_checkpoint import ResumeState

GENERATED: Final = 16


class LostAttemptCheckpoint:
    """The checkpoint of an attempt that was lost shortly before its end.

    It implements `worker.engines.interface.Checkpoint`.
    """

    def __init__(self, state: ResumeState) -> None:
        self._content = state.serialize()

    def load(self) -> bytes:
        """Return the checkpoint."""
        return self._content

    def store(self, content: bytes) -> None:
        """Discard a newer checkpoint."""


def run_jobs(folder: Path, compiled_folder: Path, duration_s: float, jobs: int, samples: int) -> None:
    """Run jobs one after another, and print the memory of the process after each job."""
    config = ModelConfig.read(folder)
    frames = round(duration_s * config.codec.frame_rate)
    known = 1 + count_tokens(frames, 0, config.decoder) - GENERATED
    with open_engine(folder, compiled_folder) as (engine, _):
        for job in range(jobs):
            tokens = tuple(draw_known(known, config.decoder, job + sample) for sample in range(samples))
            state = ResumeState(job, tokens)
            params = MusicgenParams.model_validate(
                {"model": NAME, "prompts": [PROMPT], "num_samples": samples, "duration_s": duration_s}
            )
            start_s = time.perf_counter()
            result = engine.run(JobContext(params, {}, lambda **_: None, lambda *_: None, LostAttemptCheckpoint(state)))
            print_figures(
                job=job,
                backend=f"{result['engine']}, {result['precision']}",
                duration_s=time.perf_counter() - start_s,
                rss_bytes=psutil.Process().memory_info().rss,
                peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10,
            )


def main() -> None:
    """Run the jobs, and print their figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.own_memory")
    parser.add_argument("folder", type=Path, help="the model's folder")
    parser.add_argument("compiled_folder", type=Path, help="for compiled graphs")
    parser.add_argument("--duration-s", type=float, default=30.0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--samples", type=int, default=1, help="samples per job")
    arguments = parser.parse_args()
    run_jobs(arguments.folder, arguments.compiled_folder, arguments.duration_s, arguments.jobs, arguments.samples)


if __name__ == "__main__":
    main()
