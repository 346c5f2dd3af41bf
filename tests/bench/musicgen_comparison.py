"""Ours, by OpenVINO and by MindSpore, and transformers: all loaded, taking turns."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from tests.bench.musicgen_ratios import FASTEST, SIDES
from tests.bench.peer_process import Companion, Figures
from tests.bench.progress import tell
from tests.bench.timing import Contender

PRECISIONS: Final = ("int8", "int4", "bfloat16", "float32")
PEER_PRECISIONS: Final = ("float32", "bfloat16")
MINDSPORE: Final = "MindSpore"
SIDE_BY_SIDE: Final = ("int8", "float32")
"""Which of OpenVINO's are measured with several jobs."""


@dataclass(frozen=True)
class Stable:
    """Where models and interpreters are, and where errors go."""

    folder: Path
    kept: Path
    peer_python: Path
    errors: TextIO

    def open_native(self, engine: str, precision: str) -> Companion:
        """Load the service's own model."""
        command = (sys.executable, "-m", "tests.bench.own_steps", self.folder, self.kept, engine, precision)
        return Companion(self.errors, *command)

    def open_peer(self, precision: str) -> Companion:
        """Load the model with transformers."""
        command = (self.peer_python, "-m", "tests.bench.peer_musicgen", self.folder, precision)
        return Companion(self.errors, *command)


@dataclass(frozen=True)
class Runner:
    """A contender, its process, and what it is measured in."""

    contender: Contender
    companion: Companion
    sides: tuple[int, ...] = ()
    decodes: bool = False

    def run(self) -> None:
        """Run one repeat, untaken."""
        self._note(self.companion.ask("time_windows"))
        for jobs in self.sides:
            self._note(self.companion.ask("time_jobs", jobs=jobs))
        if self.decodes:
            self._note(self.companion.ask("time_decoding"))

    def measure(self) -> None:
        """Run one repeat."""
        self.contender.take_windows(self._note(self.companion.ask("time_windows"))["step_s"])
        for jobs in self.sides:
            self.contender.jobs_s[jobs].append(self._note(self.companion.ask("time_jobs", jobs=jobs))["step_s"])
        if self.decodes:
            self.contender.decode_s.append(self._note(self.companion.ask("time_decoding"))["decode_s"])

    def _note(self, figures: Figures) -> Figures:
        self.contender.peak_bytes = figures["peak_bytes"]
        return figures


@dataclass(frozen=True)
class Field:
    """All who take turns."""

    openvino: Mapping[str, Runner]
    mindspore: Runner
    peers: Mapping[str, Runner]

    @classmethod
    def open(cls, stable: Stable, stack: ExitStack) -> "Field":
        """Load them all; they end with the stack."""

        def keep(companion: Companion) -> Companion:
            stack.callback(companion.close)
            return companion

        return cls(
            {
                precision: Runner(
                    Contender(f"OpenVINO {precision}", precision),
                    keep(stable.open_native("openvino", precision)),
                    SIDES if precision in SIDE_BY_SIDE else (),
                    decodes=precision == FASTEST,
                )
                for precision in PRECISIONS
            },
            Runner(
                Contender(f"{MINDSPORE} float32", "float32"),
                keep(stable.open_native("mindspore", "float32")),
                SIDES,
                decodes=True,
            ),
            {
                precision: Runner(
                    Contender(f"transformers {precision}", precision),
                    keep(stable.open_peer(precision)),
                    SIDES,
                    decodes=precision == "float32",
                )
                for precision in PEER_PRECISIONS
            },
        )

    def race(self, repeats: int) -> None:
        """Let them take turns; what is compiled first, and read beforehand, is not timed."""
        runners = (*self.openvino.values(), self.mindspore, *self.peers.values())
        for runner in runners:
            tell(f"{runner.contender.title}, untimed")
            runner.run()
        for repeat in range(repeats):
            tell(f"race, repeat {repeat + 1} of {repeats}")
            for runner in runners:
                runner.measure()
