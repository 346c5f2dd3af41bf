"""How fast MindNLP generates with guidance, as the engine runs it.

It runs in the application's environment, with a model in the layout of the hub::

    python -m tests.bench.mindnlp_steps FOLDER --steps 4

and prints one JSON object. Steps are timed one by one, from choice to choice, so that neither the text nor the audio
counts; the first are left out. ``peak_bytes`` is the process's highest resident size, the model included.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.own_model import SAMPLING
from tests.bench.positions import PROMPT
from tests.bench.serving import write
from worker.engines.musicgen.backends.mindnlp.backend import MindnlpGenerator
from worker.engines.musicgen.backends.mindnlp.patches import import_mindnlp
from worker.engines.musicgen.request import GenerationRequest, SampleRequest, Tokens

LEFT_OUT: Final = 2


def time_steps(composer: MindnlpGenerator, jobs: int, steps: int) -> list[float]:
    """Generate for so many jobs at once; return the duration of each step, in seconds."""
    times_s: list[float] = []

    def ignore_progress(**_: object) -> None:
        pass

    def note_time(_: Sequence[Tokens]) -> None:
        times_s.append(time.perf_counter())

    order = GenerationRequest([SampleRequest(PROMPT, None, seed) for seed in range(jobs)], steps, SAMPLING)
    composer.generate(order, ignore_progress, note_time, None)
    return [after - before for before, after in itertools.pairwise(times_s)]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mindnlp_steps")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    started_s = time.perf_counter()
    import_mindnlp()
    imported_s = time.perf_counter()
    composer = MindnlpGenerator(arguments.folder)
    loaded_s = time.perf_counter()
    # The first duration lies between the first two choices: the text and the first step are left out already.
    durations_s = time_steps(composer, arguments.jobs, arguments.steps)[LEFT_OUT - 1 :]
    write(
        jobs=arguments.jobs,
        steps=len(durations_s),
        step_s=statistics.median(durations_s),
        import_s=imported_s - started_s,
        load_s=loaded_s - imported_s,
    )


if __name__ == "__main__":
    main()
