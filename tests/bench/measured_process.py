"""Processes that are measured: one per implementation, so that implementations share neither threads nor memory."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, ParamSpec, TextIO, TypeVar

from tests.bench.source_tree import ROOT

BASELINE_PYTHON_VARIABLE: Final = "MINDJOBS_BENCH_BASELINE_PYTHON"
"""The environment variable that names the Python interpreter with the packages of the baselines.

If it is not set, the interpreter is that of the environment that ``make bench`` creates.
"""

Figures = dict[str, Any]
Given = ParamSpec("Given")
Result = TypeVar("Result")


class MeasuredProcess:
    """A process that loads an implementation once, and is idle while other processes are measured.

    The process runs ``serving.serve_measurements``.

    Parameters
    ----------
    errors
        Receives what the process writes to standard error.
    command
        The program and its arguments.
    """

    def __init__(self, errors: TextIO, *command: object) -> None:
        self._command = [str(word) for word in command]
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        self.start_figures = self._read_figures()
        """The figures that the process printed after loading."""

    def measure(self, measurement: str, **arguments: object) -> Figures:
        """Run one measurement, and return its figures."""
        if self._process.stdin is None:
            raise RuntimeError("the process has no input")
        self._process.stdin.write(json.dumps({"measurement": measurement, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._read_figures()

    def close(self) -> None:
        """Close the input of the process, which makes the process exit, and wait for its end."""
        self._process.communicate()

    def _read_figures(self) -> Figures:
        for line in self._process.stdout or ():
            if line.startswith("{"):
                return dict(json.loads(line))
        status = self._process.wait()
        raise RuntimeError(
            f"{' '.join(self._command[1:3])} exited early with status {status}; its standard error is shown above"
        )


def find_baseline_python() -> Path:
    """Find the Python interpreter of the environment of the baselines."""
    python = Path(os.environ.get(BASELINE_PYTHON_VARIABLE, ROOT / ".venv-baselines" / "bin" / "python"))
    if not python.exists():
        raise SystemExit(f"{python} does not exist: run make bench, or set {BASELINE_PYTHON_VARIABLE}.")
    return python


@contextmanager
def collect_errors() -> Iterator[TextIO]:
    """Collect the standard error of measured processes, and show it if the benchmark fails."""
    with tempfile.TemporaryFile("w+") as errors:
        try:
            yield errors
        except BaseException:
            errors.seek(0)
            sys.stderr.write(errors.read())
            raise


def run_in_process(function: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs) -> Result:
    """Run a function in a new process.

    Functions that use much memory must not run in the calling process: the kernel would count the memory of the calling
    process in the peak memory of the child processes that it starts later.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def run_command(errors: TextIO, *command: object) -> list[Figures]:
    """Run a process to its end; return the JSON lines that it printed."""
    ended = subprocess.run(
        [str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, check=True
    )
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
