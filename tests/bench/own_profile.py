"""How the time of a step with OpenVINO is divided: the loop around the network, and the operators of the network.

This program runs in the environment of the application, and prints one JSON object::

    python -m tests.bench.own_profile FOLDER COMPILED_FOLDER int8

The operators are measured with a second copy of the model, because a step takes longer if its operators are measured.
"""

import argparse
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from unittest import mock

import openvino as ov

from tests.bench.own_model import OPENVINO, load_pipeline
from tests.bench.own_steps import OwnBench
from tests.bench.serving import print_figures
from tests.bench.workload import TIMED_POSITIONS, find_start
from worker.engines.musicgen.decoding.sequence import TokenSequence
from worker.engines.musicgen.pipeline import MusicgenPipeline

STEPS: Final = 48
LISTED_KINDS: Final = 12
"""How many kinds of operators are listed one by one."""

Result = TypeVar("Result")


class ProfilingCore(ov.Core):  # type: ignore[misc] # untyped here
    """Compiles models that measure the durations of their operators."""

    def compile_model(self, model: Any, device_name: Any = None, config: Any = None, **named: Any) -> Any:
        """Compile a model as ``openvino.Core.compile_model`` does, with the measurement of operators switched on."""
        return super().compile_model(model, device_name, {**(config or {}), "PERF_COUNT": True}, **named)


class CallTimer:
    """Measures the duration of calls of several functions, each of which has a name."""

    def __init__(self) -> None:
        self._calls_s: dict[str, list[float]] = defaultdict(list)

    def wrap(self, name: str, function: Callable[..., Result]) -> Callable[..., Result]:
        """Return a function that calls ``function``, and measures each call under ``name``."""

        def call(*arguments: Any, **named: Any) -> Result:
            start_s = time.perf_counter()
            result = function(*arguments, **named)
            self._calls_s[name].append(time.perf_counter() - start_s)
            return result

        return call

    def find_median_s(self, name: str) -> float:
        """Return the median duration of all calls except the first call, which is not like the others."""
        return statistics.median(self._calls_s[name][1:])


class TimedRequest:
    """An inference request of OpenVINO whose method ``infer`` is replaced by another function.

    This class wraps the original request, because the attributes of an OpenVINO request cannot be replaced.
    """

    def __init__(self, request: Any, infer: Callable[[], object]) -> None:
        self._request = request
        self.infer = infer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def measure_parts(pipeline: MusicgenPipeline) -> dict[str, float]:
    """Measure the parts of a step of a guided job, in seconds."""
    timer, bench = CallTimer(), OwnBench(pipeline)
    with _replace_infer(pipeline, lambda request: timer.wrap("infer", request.infer)), ExitStack() as stack:
        for owner, name in ((type(pipeline.model.decoder), "step"), (TokenSequence, "extend")):
            stack.enter_context(mock.patch.object(owner, name, timer.wrap(name, getattr(owner, name))))
        # The sequence begins at the start, so that no known positions are read, and each call belongs to a step.
        steps_s = bench.time_steps(pipeline.scheduler, [bench.build_sequence(1, STEPS, 0)])
    medians = {name: timer.find_median_s(name) for name in ("infer", "step", "extend")}
    step_s = statistics.median(steps_s)
    return {
        "step_s": step_s,
        "network": medians["infer"],
        "inputs": medians["step"] - medians["infer"],
        "choice of tokens": medians["extend"],
        "loop": step_s - medians["step"] - medians["extend"],
    }


@dataclass
class OperatorTimes:
    """The times of a network and of its operators in all calls of the network so far.

    For each operator, OpenVINO returns the average over all calls so far. So the average over only the latest calls
    is computed from two ``OperatorTimes``, see ``subtract``.

    Parameters
    ----------
    calls
        The number of calls.
    total_s
        The duration of all calls together.
    average_s
        For each operator, given by its name, its kind and its average duration per call.
    """

    calls: int = 0
    total_s: float = 0.0
    average_s: dict[str, tuple[str, float]] = field(default_factory=dict)

    def make_infer(self, request: Any) -> Callable[[], object]:
        """Return a function that calls the network with ``request.infer``, and records the times."""

        def infer() -> None:
            start_s = time.perf_counter()
            request.infer()
            self.total_s += time.perf_counter() - start_s
            self.calls += 1
            self.average_s = {
                node.node_name: (node.node_type, node.real_time.total_seconds())
                for node in request.get_profiling_info()
                if node.status == ov.ProfilingInfo.Status.EXECUTED
            }

        return infer

    def subtract(self, before: Self) -> dict[str, Any]:
        """Return the times per call in the calls after those that ``before`` contains.

        The times are given for the whole network, for each of the most expensive kinds of operators, and for all other
        operators together.
        """
        steps = self.calls - before.calls
        kind_s: dict[str, float] = defaultdict(float)
        counts = Counter(kind for kind, _ in self.average_s.values())
        for name, (kind, average_s) in self.average_s.items():
            _, average_before_s = before.average_s.get(name, (kind, 0.0))
            kind_s[kind] += (average_s * self.calls - average_before_s * before.calls) / steps
        listed = sorted(kind_s.items(), key=lambda item: item[1], reverse=True)[:LISTED_KINDS]
        return {
            "infer_s": (self.total_s - before.total_s) / steps,
            "nodes": {kind: {"step_s": seconds, "count": counts[kind]} for kind, seconds in listed},
            "others_s": sum(kind_s.values()) - sum(seconds for _, seconds in listed),
        }


def measure_operators(folder: Path, compiled_folder: Path, precision: str) -> dict[str, Any]:
    """Measure the operators in the steps around the middle of a guided job of 10 s; return the seconds per step."""
    with mock.patch.object(ov, "Core", ProfilingCore):
        pipeline = load_pipeline(folder, OPENVINO, precision, compiled_folder)
    times, before_steps = OperatorTimes(), OperatorTimes()
    bench, decoder = OwnBench(pipeline), pipeline.model.decoder
    feed = decoder.feed

    def feed_and_record(*arguments: Any) -> None:
        nonlocal before_steps
        feed(*arguments)
        before_steps = replace(times)

    with _replace_infer(pipeline, times.make_infer), mock.patch.object(decoder, "feed", feed_and_record):
        bench.time_steps(pipeline.scheduler, [bench.build_sequence(find_start(TIMED_POSITIONS[1]) + 1, STEPS, 0)])
    return times.subtract(before_steps)


@contextmanager
def _replace_infer(pipeline: MusicgenPipeline, make: Callable[[Any], Callable[[], object]]) -> Iterator[None]:
    decoder: Any = pipeline.model.decoder
    with mock.patch.object(decoder, "_step", TimedRequest(decoder._step, make(decoder._step))):
        yield


def main() -> None:
    """Measure the parts and the operators of a step, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.own_profile")
    parser.add_argument("folder", type=Path, help="the model's folder")
    parser.add_argument("compiled_folder", type=Path, help="for compiled graphs")
    parser.add_argument("precision")
    chosen = parser.parse_args()
    parts = measure_parts(load_pipeline(chosen.folder, OPENVINO, chosen.precision, chosen.compiled_folder))
    print_figures(parts=parts, **measure_operators(chosen.folder, chosen.compiled_folder, chosen.precision))


if __name__ == "__main__":
    main()
