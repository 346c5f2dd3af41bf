"""Processes that are measured: one each, so that neither threads nor memory mix."""

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
from typing import Any, ParamSpec, TextIO, TypeVar

from tests.bench.machine import ROOT

Figures = dict[str, Any]
Given = ParamSpec("Given")
Result = TypeVar("Result")


class Companion:
    """A process that stays, loaded and idle, while others are measured; see ``serving``.

    Parameters
    ----------
    errors
        Where it says what is not a figure.
    """

    def __init__(self, errors: TextIO, *command: object) -> None:
        self._command = [str(word) for word in command]
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        self.start = self._read()
        """What it tells when it is loaded."""

    def ask(self, measure: str, **arguments: object) -> Figures:
        """Measure one thing."""
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
        status = self._process.wait()
        raise RuntimeError(
            f"{' '.join(self._command[1:3])} has ended early, status {status}; what it said stands above"
        )


def find_peer_python() -> Path:
    """Find the interpreter of the peers' environment."""
    python = Path(os.environ.get("MINDJOBS_PEER_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
    if not python.exists():
        raise SystemExit(f"{python} is not there: make bench sets it up, or MINDJOBS_PEER_PYTHON names another.")
    return python


@contextmanager
def keep_errors() -> Iterator[TextIO]:
    """Keep what the processes say beside their figures, and show it if the bench fails."""
    with tempfile.TemporaryFile("w+") as errors:
        try:
            yield errors
        except BaseException:
            errors.seek(0)
            sys.stderr.write(errors.read())
            raise


def run_apart(function: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs) -> Result:
    """Run in a process of its own: the kernel counts a parent's memory as the peak of what it starts."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def run_lines(errors: TextIO, *command: object) -> list[Figures]:
    """Run a process to its end; return the JSON lines it printed."""
    ended = subprocess.run(
        [str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, check=True
    )
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
