"""The implementations of MusicGen that are measured in turn: OpenVINO, MindSpore, and transformers on PyTorch."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from tests.bench.implementation import Implementation
from tests.bench.measured_process import Figures, MeasuredProcess
from tests.bench.musicgen_ratios import BATCH_SIZES, DEFAULT_PRECISION
from tests.bench.musicgen_results import Implementations
from tests.bench.own_model import MINDSPORE, OPENVINO
from tests.bench.progress import log_progress
from worker.engines.musicgen.backends.processor import list_openvino_precisions

PRECISIONS: Final = ("int8", "int4", "bfloat16", "float32")
"""The precisions of OpenVINO on a processor that supports all of them."""
BATCHED_PRECISIONS: Final = ("int8", "float32")
"""The precisions of OpenVINO that are measured not only with one job, but also with several jobs."""
TRANSFORMERS_PRECISIONS: Final = ("float32", "bfloat16")


def list_precisions() -> tuple[str, ...]:
    """Return the precisions that OpenVINO offers on this processor."""
    offered = list_openvino_precisions()
    return tuple(precision for precision in PRECISIONS if precision in offered)


@dataclass(frozen=True)
class ProcessStarter:
    """Starts the processes that are measured.

    Parameters
    ----------
    folder
        The folder of the model.
    compiled_folder
        The folder for compiled graphs.
    baseline_python
        The Python interpreter of the environment of the baselines.
    errors
        Receives what the processes write to standard error.
    """

    folder: Path
    compiled_folder: Path
    baseline_python: Path
    errors: TextIO

    def start_own(self, backend: str, precision: str) -> MeasuredProcess:
        """Start a process that loads the model with a backend of the service."""
        module = ("-m", "tests.bench.own_steps")
        arguments = (self.folder, self.compiled_folder, backend, precision)
        return MeasuredProcess(self.errors, sys.executable, *module, *arguments)

    def start_transformers(self, precision: str) -> MeasuredProcess:
        """Start a process that loads the model with transformers."""
        command = (self.baseline_python, "-m", "tests.bench.baseline_musicgen", self.folder, precision)
        return MeasuredProcess(self.errors, *command)


@dataclass(frozen=True)
class LoadedImplementation:
    """An implementation, and the process in which it has loaded the model.

    Parameters
    ----------
    batch_sizes
        The numbers of jobs per batch that are measured, in addition to one job alone.
    decodes
        Whether the decoding of EnCodec is measured.
    """

    implementation: Implementation
    process: MeasuredProcess
    batch_sizes: tuple[int, ...] = ()
    decodes: bool = False

    def warm_up(self) -> None:
        """Run one repeat whose times are not recorded."""
        self._measure("time_positions")
        for jobs in self.batch_sizes:
            self._measure("time_jobs", jobs=jobs)
        if self.decodes:
            self._measure("time_decoding")

    def measure(self) -> None:
        """Run one repeat, and record its times."""
        implementation = self.implementation
        implementation.add_position_steps(self._measure("time_positions")["step_s"])
        for jobs in self.batch_sizes:
            implementation.jobs_s[jobs].append(self._measure("time_jobs", jobs=jobs)["step_s"])
        if self.decodes:
            implementation.decode_s.append(self._measure("time_decoding")["decode_s"])

    def _measure(self, measurement: str, **arguments: object) -> Figures:
        figures = self.process.measure(measurement, **arguments)
        self.implementation.peak_bytes = figures["peak_bytes"]
        return figures


@dataclass(frozen=True)
class LoadedImplementations:
    """All implementations that are measured in turn."""

    openvino: Mapping[str, LoadedImplementation]
    mindspore: LoadedImplementation
    transformers: Mapping[str, LoadedImplementation]

    @classmethod
    def load(cls, starter: ProcessStarter, precisions: Iterable[str], stack: ExitStack) -> "LoadedImplementations":
        """Load all implementations; their processes end when the stack is closed.

        Parameters
        ----------
        precisions
            The precisions of OpenVINO to load.
        """

        def close_later(process: MeasuredProcess) -> MeasuredProcess:
            stack.callback(process.close)
            return process

        return cls(
            {
                precision: LoadedImplementation(
                    Implementation(f"OpenVINO {precision}", precision),
                    close_later(starter.start_own(OPENVINO, precision)),
                    BATCH_SIZES if precision in BATCHED_PRECISIONS else (),
                    decodes=precision == DEFAULT_PRECISION,
                )
                for precision in precisions
            },
            LoadedImplementation(
                Implementation("MindSpore float32", "float32"),
                close_later(starter.start_own(MINDSPORE, "float32")),
                BATCH_SIZES,
                decodes=True,
            ),
            {
                precision: LoadedImplementation(
                    Implementation(f"transformers {precision}", precision),
                    close_later(starter.start_transformers(precision)),
                    BATCH_SIZES,
                    decodes=precision == "float32",
                )
                for precision in TRANSFORMERS_PRECISIONS
            },
        )

    def measure(self, repeats: int) -> None:
        """Measure the implementations in turn.

        Each implementation first runs one repeat that is not recorded. In this repeat, it compiles its
        graphs, and reads the given tokens of the positions before the timed steps.
        """
        loaded = (*self.openvino.values(), self.mindspore, *self.transformers.values())
        for each in loaded:
            log_progress(f"{each.implementation.title}, warm-up")
            each.warm_up()
        for repeat in range(repeats):
            log_progress(f"comparison, repeat {repeat + 1} of {repeats}")
            for each in loaded:
                each.measure()

    def list_implementations(self, mindnlp: Implementation) -> Implementations:
        """Return the implementations that were measured in turn, together with ``mindnlp``."""
        return Implementations(
            {precision: each.implementation for precision, each in self.openvino.items()},
            self.mindspore.implementation,
            {precision: each.implementation for precision, each in self.transformers.items()},
            mindnlp,
        )
