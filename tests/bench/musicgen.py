"""How fast music is generated at musicgen-small's shape, beside transformers on PyTorch and MindNLP.

The weights are random: no step is faster or slower for it. Every contender has a process of its own, and they take
turns, so that what the machine does meanwhile falls on all alike.

``MINDJOBS_BENCH_MODEL`` names a folder with a model of that shape; otherwise one is written into a temporary folder,
2.3 GB. ``MINDJOBS_PEER_PYTHON`` names the interpreter that has PyTorch; ``make bench`` makes one.
``MINDJOBS_BENCH_REPEATS`` says how often the race is run.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.bench import musicgen_jobs
from tests.bench.findings import Findings, Race
from tests.bench.logits import Distance
from tests.bench.memory_reads import measure_bytes_per_s
from tests.bench.musicgen_comparison import MINDSPORE, PRECISIONS, Field, Stable
from tests.bench.musicgen_ratios import FASTEST, SIDES
from tests.bench.musicgen_report import (
    EARLY,
    LATE,
    LOGITS_POSITIONS,
    LONG_S,
    MINDNLP_STEPS,
    SHORT_JOBS,
    SHORT_S,
    write_section,
)
from tests.bench.peer_process import Companion, Figures, find_peer_python, keep_errors, run_apart, run_lines
from tests.bench.progress import tell
from tests.bench.section import Section, count_repeats
from tests.bench.timing import Contender
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.random_model import SMALL, write_random_model

REPEATS: Final = 5
EXACT: Final = "float32"
FEWER_BITS: Final = tuple(precision for precision in PRECISIONS if precision != EXACT)
JOB_S: Final = 10.0


def run() -> Section:
    """Measure."""
    peer_python = find_peer_python()
    with ExitStack() as stack:
        folder = stack.enter_context(_provide_model())
        errors = stack.enter_context(keep_errors())
        kept = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mj-bench-")))
        findings = _measure(Stable(folder, kept, peer_python, errors))
        section = write_section(findings)
        jobs = musicgen_jobs.run(folder, kept, JOB_S, sum(findings.job["parts"].values()))
        return Section.join((section, jobs), section.about)


@contextmanager
def _provide_model() -> Iterator[Path]:
    """Name the model's folder; where none is given, write one in a process whose memory goes with it."""
    given = os.environ.get("MINDJOBS_BENCH_MODEL")
    if given:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as home:
        folder = Path(home, "small")
        run_apart(write_random_model, folder, SMALL, 0)
        yield folder


def _measure(stable: Stable) -> Findings:
    repeats = count_repeats(REPEATS)
    speeds = [run_apart(measure_bytes_per_s)]
    tell("first starts")
    cold = {precision: _start_first(stable, precision) for precision in PRECISIONS}
    with ExitStack() as stack:
        tell("loading")
        field = Field.open(stable, stack)
        fastest, mindspore = field.openvino[FASTEST].companion, field.mindspore.companion
        second = {**fastest.start, **fastest.ask("time_first_step")}
        field.race(repeats)
        speeds.append(run_apart(measure_bytes_per_s))
        openvino = {precision: runner.companion for precision, runner in field.openvino.items()}
        tell("logits, known positions")
        full_size = _compare_logits(openvino, stable.kept)
        reading = {f"{MINDSPORE} float32": mindspore, f"OpenVINO {FASTEST}": fastest}
        frames_per_s = {title: who.ask("time_reading")["frames_per_s"] for title, who in reading.items()}
    places = _time_places(stable)  # whose caches have room only when the others are gone
    own = (stable.folder, stable.kept)
    (job,) = _run_native(stable, "own_job", *own, "--duration-s", JOB_S)
    (profile,) = _run_native(stable, "own_profile", *own, FASTEST)
    (fixtures,) = _run_native(stable, "own_references", *FEWER_BITS)
    race = Race(
        {precision: runner.contender for precision, runner in field.openvino.items()},
        field.mindspore.contender,
        {precision: runner.contender for precision, runner in field.peers.items()},
        _measure_mindnlp(stable),
    )
    return Findings(
        config=ModelConfig.read(stable.folder),
        race=race,
        bytes_per_s=max(*speeds, run_apart(measure_bytes_per_s)),
        text_tokens=fastest.start["text_tokens"],
        repeats=repeats,
        cold=cold[FASTEST],
        second=second,
        reading=frames_per_s,
        places=places,
        profile=profile,
        job=job,
        long_jobs=_run_native(stable, "own_memory", *own, "--duration-s", LONG_S, "--jobs", 1),
        short_jobs=_run_native(stable, "own_memory", *own, "--duration-s", SHORT_S, "--jobs", SHORT_JOBS),
        full_size=full_size,
        fixtures={precision: Distance(**fixtures[precision]) for precision in FEWER_BITS},
    )


def _start_first(stable: Stable, precision: str) -> Figures:
    """Start where nothing is kept yet, and let it be kept."""
    companion = stable.open_native("openvino", precision)
    start = {**companion.start, **companion.ask("time_first_step")}
    companion.close()
    return start


def _time_places(stable: Stable) -> Figures:
    tell("late and early steps")
    companion = stable.open_native("mindspore", EXACT)
    places = companion.ask("time_places", jobs=SIDES[-1], early=EARLY, late=LATE)
    companion.close()
    return places


def _compare_logits(companions: Mapping[str, Companion], folder: Path) -> dict[str, Distance]:
    """Compare the logits of fewer bits with exact ones."""

    def read(precision: str) -> Any:
        path = folder / f"{precision}.npy"
        companions[precision].ask("store_logits", path=str(path), positions=LOGITS_POSITIONS)
        return np.load(path)

    exact = read(EXACT)
    return {precision: Distance.measure(read(precision), exact) for precision in FEWER_BITS}


def _measure_mindnlp(stable: Stable) -> Contender:
    (figures,) = _run_native(stable, "mindnlp_steps", stable.folder, "--steps", MINDNLP_STEPS)
    contender = Contender("MindNLP float32", "float32", peak_bytes=figures["peak_bytes"])
    contender.jobs_s[1].append(figures["step_s"])
    return contender


def _run_native(stable: Stable, module: str, *arguments: object) -> list[Figures]:
    """Run a process of the application's environment to its end."""
    tell(module)
    return run_lines(stable.errors, sys.executable, "-m", f"tests.bench.{module}", *arguments)


if __name__ == "__main__":
    sys.stdout.write(run().write())
