"""How fast a model of the size of musicgen-small generates, compared with transformers on PyTorch, and with MindNLP.

The weights are random, but a step is as fast as with real weights. Each implementation
has a process of its own. The implementations are measured in turn, so that other load
on the machine affects all of them equally. A precision that OpenVINO does not offer on
this processor is left out, and the report says so.

``MINDJOBS_BENCH_MODEL`` names a folder with a model of the size of musicgen-small; if it
is not set, a model of 2.3 GB is written into a temporary folder.
``MINDJOBS_BENCH_BASELINE_PYTHON`` names a Python interpreter with PyTorch; ``make bench``
installs one. ``MINDJOBS_BENCH_REPEATS`` sets the number of repeats.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.bench import musicgen_jobs, musicgen_samples
from tests.bench.implementation import Implementation
from tests.bench.logits import LogitDifference
from tests.bench.measured_process import (
    Figures,
    MeasuredProcess,
    collect_errors,
    find_baseline_python,
    run_command,
    run_in_process,
)
from tests.bench.memory_reads import measure_bytes_per_s
from tests.bench.musicgen_comparison import PRECISIONS, LoadedImplementations, ProcessStarter, list_precisions
from tests.bench.musicgen_ratios import BATCH_SIZES, DEFAULT_PRECISION
from tests.bench.musicgen_report import (
    EARLY_POSITION,
    LATE_POSITION,
    LOGITS_POSITIONS,
    LONG_S,
    MINDNLP_STEPS,
    SHORT_JOBS,
    SHORT_S,
    format_section,
)
from tests.bench.musicgen_results import Results
from tests.bench.own_model import MINDSPORE, OPENVINO
from tests.bench.progress import log_progress
from tests.bench.section import Section, read_repeats
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.random_model import SMALL, write_random_model

REPEATS: Final = 5
EXACT: Final = "float32"
JOB_S: Final = 10.0


def run() -> Section:
    """Measure all implementations, and return the section for the report."""
    baseline_python = find_baseline_python()
    with ExitStack() as stack:
        folder = stack.enter_context(_provide_model())
        errors = stack.enter_context(collect_errors())
        compiled_folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mj-bench-")))
        results = _measure(ProcessStarter(folder, compiled_folder, baseline_python, errors))
        section = format_section(results)
        jobs = musicgen_jobs.run(folder, compiled_folder, JOB_S, sum(results.job["parts"].values()))
        return Section.join((section, jobs, musicgen_samples.run()), section.conditions)


@contextmanager
def _provide_model() -> Iterator[Path]:
    """Yield the folder of the model; if no folder is given, write a model into a temporary folder.

    The model is written in a process of its own, so that the memory is freed when this process ends.
    """
    given = os.environ.get("MINDJOBS_BENCH_MODEL")
    if given:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as home:
        folder = Path(home, "small")
        run_in_process(write_random_model, folder, SMALL, 0)
        yield folder


@dataclass(frozen=True)
class Comparison:
    """The figures that were measured while all implementations were loaded.

    ``loaded`` holds the implementations. All other fields are the fields of ``Results`` with the same names.
    """

    loaded: LoadedImplementations
    bytes_per_s: float
    second_start: Figures
    prefill: Mapping[str, float]
    full_size: Mapping[str, LogitDifference]


def _measure(starter: ProcessStarter) -> Results:
    repeats, precisions = read_repeats(REPEATS), list_precisions()
    memory_speeds = [run_in_process(measure_bytes_per_s)]
    log_progress("first starts")
    first_starts = {precision: _start_first(starter, precision) for precision in precisions}
    comparison = _compare(starter, precisions, repeats)
    full_caches = _time_full_caches(starter)  # enough memory is free only after the other processes have ended
    model = (starter.folder, starter.compiled_folder)
    (job,) = _run_own(starter, "own_job", *model, "--duration-s", JOB_S)
    (profile,) = _run_own(starter, "own_profile", *model, DEFAULT_PRECISION)
    inexact = [precision for precision in precisions if precision != EXACT]
    (references,) = _run_own(starter, "own_references", *inexact)
    implementations = comparison.loaded.list_implementations(_measure_mindnlp(starter))
    return Results(
        config=ModelConfig.read(starter.folder),
        implementations=implementations,
        unsupported=[precision for precision in PRECISIONS if precision not in precisions],
        bytes_per_s=max(*memory_speeds, comparison.bytes_per_s, run_in_process(measure_bytes_per_s)),
        text_tokens=comparison.second_start["text_tokens"],
        repeats=repeats,
        first_start=first_starts[DEFAULT_PRECISION],
        second_start=comparison.second_start,
        prefill=comparison.prefill,
        full_caches=full_caches,
        profile=profile,
        job=job,
        long_jobs=_run_own(starter, "own_memory", *model, "--duration-s", LONG_S, "--jobs", 1),
        short_jobs=_run_own(starter, "own_memory", *model, "--duration-s", SHORT_S, "--jobs", SHORT_JOBS),
        full_size=comparison.full_size,
        references={precision: LogitDifference(**references[precision]) for precision in inexact},
    )


def _compare(starter: ProcessStarter, precisions: Sequence[str], repeats: int) -> Comparison:
    """Load all implementations, and measure them in turn."""
    with ExitStack() as stack:
        log_progress("loading")
        loaded = LoadedImplementations.load(starter, precisions, stack)
        openvino, mindspore = loaded.openvino[DEFAULT_PRECISION].process, loaded.mindspore.process
        second_start = {**openvino.start_figures, **openvino.measure("time_first_step")}
        loaded.measure(repeats)
        bytes_per_s = run_in_process(measure_bytes_per_s)
        log_progress("logits, known positions")
        processes = {precision: each.process for precision, each in loaded.openvino.items()}
        full_size = _compare_logits(processes, starter.compiled_folder)
        prefilling = {"MindSpore float32": mindspore, f"OpenVINO {DEFAULT_PRECISION}": openvino}
        prefill = {title: process.measure("time_prefill")["frames_per_s"] for title, process in prefilling.items()}
    return Comparison(loaded, bytes_per_s, second_start, prefill, full_size)


def _start_first(starter: ProcessStarter, precision: str) -> Figures:
    """Start OpenVINO without compiled graphs on disk; this start stores the graphs for later starts."""
    process = starter.start_own(OPENVINO, precision)
    figures = {**process.start_figures, **process.measure("time_first_step")}
    process.close()
    return figures


def _time_full_caches(starter: ProcessStarter) -> Figures:
    log_progress("steps with full caches")
    process = starter.start_own(MINDSPORE, EXACT)
    figures = process.measure("time_full_caches", jobs=BATCH_SIZES[-1], early=EARLY_POSITION, late=LATE_POSITION)
    process.close()
    return figures


def _compare_logits(processes: Mapping[str, MeasuredProcess], folder: Path) -> dict[str, LogitDifference]:
    """Compare the logits of each precision except float32 with the logits of float32."""

    def read_logits(precision: str) -> Any:
        path = folder / f"{precision}.npy"
        processes[precision].measure("store_logits", path=str(path), positions=LOGITS_POSITIONS)
        return np.load(path)

    exact = read_logits(EXACT)
    inexact = [precision for precision in processes if precision != EXACT]
    return {precision: LogitDifference.measure(read_logits(precision), exact) for precision in inexact}


def _measure_mindnlp(starter: ProcessStarter) -> Implementation:
    (figures,) = _run_own(starter, "mindnlp_steps", starter.folder, "--steps", MINDNLP_STEPS)
    implementation = Implementation("MindNLP float32", "float32", peak_bytes=figures["peak_bytes"])
    implementation.jobs_s[1].append(figures["step_s"])
    return implementation


def _run_own(starter: ProcessStarter, module: str, *arguments: object) -> list[Figures]:
    """Run a module of this package to its end, in the environment of the application; return what it printed."""
    log_progress(module)
    return run_command(starter.errors, sys.executable, "-m", f"tests.bench.{module}", *arguments)


if __name__ == "__main__":
    sys.stdout.write(run().format())
