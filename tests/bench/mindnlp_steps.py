"""How fast MindNLP generates with guidance, if it is used as the engine uses it.

This program runs in the environment of the application, and reads a model in the layout of the Hugging Face hub::

    python -m tests.bench.mindnlp_steps FOLDER --steps 4

It prints one JSON object. Each step is timed from one choice of tokens to the next
choice. So the times contain neither the encoding of the text nor the decoding of the
audio. The first ``UNTIMED_STEPS`` steps are left out. ``peak_bytes`` is the highest resident size of the
process, including the model.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.own_model import SAMPLING
from tests.bench.serving import print_figures
from tests.bench.workload import PROMPT
from worker.engines.musicgen.backends.mindnlp.backend import MindnlpGenerator
from worker.engines.musicgen.backends.mindnlp.patches import import_mindnlp
from worker.engines.musicgen.request import GenerationRequest, SampleRequest, Tokens

UNTIMED_STEPS: Final = 2


def time_steps(generator: MindnlpGenerator, jobs: int, steps: int) -> list[float]:
    """Generate for several jobs at once; return the durations from one choice of tokens to the next, in seconds."""
    times_s: list[float] = []

    def ignore_progress(**_: object) -> None:
        pass

    def record_time(_: Sequence[Tokens]) -> None:
        times_s.append(time.perf_counter())

    samples = [SampleRequest(PROMPT, None, seed) for seed in range(jobs)]
    list(generator.generate(GenerationRequest(samples, steps, SAMPLING), ignore_progress, record_time, None))
    return [after - before for before, after in itertools.pairwise(times_s)]


def main() -> None:
    """Load MindNLP and the model, time the steps, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mindnlp_steps")
    parser.add_argument("folder", type=Path, help="the model's folder")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    start_s = time.perf_counter()
    import_mindnlp()
    imported_s = time.perf_counter()
    generator = MindnlpGenerator(arguments.folder)
    loaded_s = time.perf_counter()
    # The first step, with the encoding of the text, is not among the durations, because they start at the first choice
    # of tokens. The slice removes the durations of the other untimed steps.
    durations_s = time_steps(generator, arguments.jobs, arguments.steps)[UNTIMED_STEPS - 1 :]
    print_figures(
        jobs=arguments.jobs,
        steps=len(durations_s),
        step_s=statistics.median(durations_s),
        import_s=imported_s - start_s,
        load_s=loaded_s - imported_s,
    )


if __name__ == "__main__":
    main()
