"""How fast music is generated at musicgen-small's shape, beside transformers on PyTorch and MindNLP.

The weights are random: no step is faster or slower for it. Every contender has a
process of its own, so that neither threads nor memory mix, and ours and
transformers take turns, so that what the machine does meanwhile falls on all alike.

``MINDJOBS_BENCH_MODEL`` names a folder with a model of that shape; otherwise one is
written into a temporary folder, 2.3 GB. ``MINDJOBS_PEER_PYTHON`` names the
interpreter that has PyTorch; ``make bench`` makes one.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, ParamSpec, TextIO, TypeVar

from tests.bench.memory_reads import measure_bytes_per_s
from tests.bench.musicgen_report import (
    EARLY,
    JOBS,
    LATE,
    LONG_S,
    MINDNLP_STEPS,
    REPEATS,
    SHORT_JOBS,
    SHORT_S,
    STEPS,
    Contender,
    Figures,
    Findings,
    write_report,
)
from worker.engines.musicgen.configuration import ModelConfig
from worker.engines.musicgen.random_model import SMALL, write_random_model

WARM_UP_STEPS: Final = 4
ROOT: Final = Path(__file__).parents[2]

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Native:
    """The service's own model, in a process that waits while others are measured."""

    def __init__(self, folder: Path, errors: TextIO) -> None:
        command = [sys.executable, "-m", "tests.bench.native_steps", str(folder)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        self.load_s = float(self._read()["load_s"])

    def ask(self, measure: str, **arguments: int) -> Figures:
        """Measure one thing; see ``native_steps``."""
        if self._process.stdin is None:
            raise RuntimeError("the process has no input")
        self._process.stdin.write(json.dumps({"measure": measure, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Let the process end, and wait for it."""
        self._process.communicate()

    def _read(self) -> Figures:
        for line in self._process.stdout or ():
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError("tests.bench.native_steps has ended early; what it said stands above")


def run() -> str:
    """Measure, and return Markdown."""
    peer_python = Path(os.environ.get("MINDJOBS_PEER_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
    if not peer_python.exists():
        raise SystemExit(f"{peer_python} is not there: make bench sets it up, or MINDJOBS_PEER_PYTHON names another.")
    with ExitStack() as stack:
        folder = stack.enter_context(_provide_model())
        errors = stack.enter_context(_keep_errors())
        speeds = [_run_apart(measure_bytes_per_s)]
        native = Native(folder, errors)
        stack.callback(native.close)
        first_step_s = native.ask("time_steps", jobs=1, steps=WARM_UP_STEPS)["first_step_s"]
        first_decode_s = native.ask("time_decoding")["first_s"]
        contenders = _race(native, peer_python, folder, errors)
        speeds.append(_run_apart(measure_bytes_per_s))
        findings = Findings(
            config=ModelConfig.read(folder).decoder,
            contenders=[*contenders, _measure_mindnlp(folder, errors)],
            starts={
                "load_s": native.load_s,
                "first_step_s": first_step_s,
                "first_decode_s": first_decode_s,
                **native.ask("time_compiling"),
            },
            reading=native.ask("time_reading"),
            places=native.ask("time_places", jobs=JOBS[-1], early=EARLY, late=LATE),
            **_measure_memory(folder, errors),
            bytes_per_s=max(*speeds, _run_apart(measure_bytes_per_s)),
        )
    return write_report(findings)


@contextmanager
def _provide_model() -> Iterator[Path]:
    """Name the model's folder; where none is given, write one in a process whose memory goes with it."""
    given = os.environ.get("MINDJOBS_BENCH_MODEL")
    if given:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as home:
        folder = Path(home, "small")
        _run_apart(write_random_model, folder, SMALL, 0)
        yield folder


@contextmanager
def _keep_errors() -> Iterator[TextIO]:
    """Keep what the processes say beside their figures, and show it if the bench fails."""
    with tempfile.TemporaryFile("w+") as errors:
        try:
            yield errors
        except BaseException:
            errors.seek(0)
            sys.stderr.write(errors.read())
            raise


def _run_apart(function: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs) -> Result:
    """Run in a process of its own: the kernel counts a parent's memory as the peak of what it starts."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def _run_lines(errors: TextIO, *command: object) -> list[Figures]:
    """Run a process to its end; return the JSON lines it printed."""
    ended = subprocess.run(
        [str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, check=True
    )
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


def _race(native: Native, peer_python: Path, folder: Path, errors: TextIO) -> list[Contender]:
    ours = Contender("mindjobs, float32")
    peers = {precision: Contender(f"transformers, {precision}") for precision in ("float32", "bfloat16")}
    numbers = [str(jobs) for jobs in JOBS]
    for jobs in JOBS:
        native.ask("time_steps", jobs=jobs, steps=WARM_UP_STEPS)  # compiles
    for _ in range(REPEATS):
        for jobs in JOBS:
            figures = native.ask("time_steps", jobs=jobs, steps=STEPS)
            ours.steps_per_s[jobs].append(figures["steps_per_s"])
            ours.peak_bytes = figures["peak_bytes"]
        ours.decode_s.append(native.ask("time_decoding")["decode_s"])
        for precision, peer in peers.items():
            command = [peer_python, "-m", "tests.bench.peer_musicgen", folder, "--precision", precision]
            lines = _run_lines(errors, *command, "--steps", str(STEPS), "--jobs", *numbers)
            for line in lines:
                if line["what"] == "generate":
                    peer.steps_per_s[line["jobs"]].append(line["steps_per_s"])
                    peer.peak_bytes = max(peer.peak_bytes, line["peak_bytes"])
                elif line["what"] == "decode":
                    peer.decode_s.append(line["decode_s"])
    return [ours, *peers.values()]


def _measure_mindnlp(folder: Path, errors: TextIO) -> Contender:
    command = [sys.executable, "-m", "tests.bench.mindnlp_steps", folder, "--jobs", "1", "--steps", str(MINDNLP_STEPS)]
    (figures,) = _run_lines(errors, *command)
    return Contender("MindNLP, float32", {1: [figures["steps_per_s"]]}, peak_bytes=figures["peak_bytes"])


def _measure_memory(folder: Path, errors: TextIO) -> dict[str, list[Figures]]:
    command = [sys.executable, "-m", "tests.bench.native_memory", folder]
    return {
        "long_jobs": _run_lines(errors, *command, "--duration-s", str(LONG_S), "--jobs", "1"),
        "short_jobs": _run_lines(errors, *command, "--duration-s", str(SHORT_S), "--jobs", str(SHORT_JOBS)),
    }
