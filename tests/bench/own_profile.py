"""Where the time of a step on OpenVINO goes: what precedes and follows the network, and the network's operators.

It runs in the application's environment, and prints one JSON object::

    python -m tests.bench.own_profile FOLDER KEPT int8

The operators' times are taken from a second copy of the model, because taking them makes steps longer.
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

from tests.bench.own_model import OPENVINO, load_composer
from tests.bench.own_steps import OwnBench
from tests.bench.positions import PLACES, find_start
from tests.bench.serving import write
from worker.engines.musicgen.decoding.scheduler import BatchScheduler
from worker.engines.musicgen.decoding.sequence import TokenSequence
from worker.engines.musicgen.pipeline import MusicgenPipeline

STEPS: Final = 48
LISTED: Final = 12
"""How many kinds of operators are told apart."""

Result = TypeVar("Result")


class CountingCore(ov.Core):  # type: ignore[misc] # untyped here
    """Compiles what counts its operators' times."""

    def compile_model(self, model: Any, device_name: Any = None, config: Any = None, **named: Any) -> Any:
        """Compile; see OpenVINO."""
        return super().compile_model(model, device_name, {**(config or {}), "PERF_COUNT": True}, **named)


class Watch:
    """Takes the time of calls, by name."""

    def __init__(self) -> None:
        self._calls_s: dict[str, list[float]] = defaultdict(list)

    def wrap(self, name: str, function: Callable[..., Result]) -> Callable[..., Result]:
        """Take the time of a function's calls."""

        def call(*arguments: Any, **named: Any) -> Result:
            start_s = time.perf_counter()
            result = function(*arguments, **named)
            self._calls_s[name].append(time.perf_counter() - start_s)
            return result

        return call

    def find_median_s(self, name: str) -> float:
        """Return the median of a function's calls, without the first, which differs."""
        return statistics.median(self._calls_s[name][1:])


class WatchedRequest:
    """OpenVINO's request, whose attributes cannot be replaced, with another ``infer``."""

    def __init__(self, request: Any, infer: Callable[[], object]) -> None:
        self._request = request
        self.infer = infer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def split_step(composer: MusicgenPipeline) -> dict[str, float]:
    """Take the time of the parts of a guided job's steps, in seconds."""
    watch, bench = Watch(), OwnBench(composer)
    with _replace_infer(composer, lambda request: watch.wrap("infer", request.infer)), ExitStack() as stack:
        for owner, name in (
            (type(composer.model.decoder), "step"),
            (TokenSequence, "extend"),
            (BatchScheduler, "_step"),
        ):
            stack.enter_context(mock.patch.object(owner, name, watch.wrap(name, getattr(owner, name))))
        # From the start, so that nothing is read beforehand and each call is a step's.
        steps_s = bench.time_steps(composer.scheduler, [bench.lay_track(1, STEPS, 0)])
    medians = {name: watch.find_median_s(name) for name in ("infer", "step", "extend", "_step")}
    step_s = statistics.median(steps_s)
    return {
        "step_s": step_s,
        "network": medians["infer"],
        "inputs": medians["step"] - medians["infer"],
        "choice of tokens": medians["extend"],
        "loop": step_s - medians["step"] - medians["extend"],
    }


@dataclass
class NodeCount:
    """Operators' times. OpenVINO gives the average of all calls so far, so those of the steps are a difference."""

    calls: int = 0
    inferred_s: float = 0.0
    average_s: dict[str, tuple[str, float]] = field(default_factory=dict)

    def make_infer(self, request: Any) -> Callable[[], object]:
        """Count the calls of a request."""

        def infer() -> None:
            start_s = time.perf_counter()
            request.infer()
            self.inferred_s += time.perf_counter() - start_s
            self.calls += 1
            self.average_s = {
                node.node_name: (node.node_type, node.real_time.total_seconds())
                for node in request.get_profiling_info()
                if node.status == ov.ProfilingInfo.Status.EXECUTED
            }

        return infer

    def subtract(self, before: Self) -> dict[str, Any]:
        """Return what the calls took since then, each: the most expensive kinds of operators, and the rest."""
        steps = self.calls - before.calls
        taken_s: dict[str, float] = defaultdict(float)
        counts = Counter(kind for kind, _ in self.average_s.values())
        for name, (kind, average_s) in self.average_s.items():
            _, average_before_s = before.average_s.get(name, (kind, 0.0))
            taken_s[kind] += (average_s * self.calls - average_before_s * before.calls) / steps
        listed = sorted(taken_s.items(), key=lambda item: item[1], reverse=True)[:LISTED]
        return {
            "infer_s": (self.inferred_s - before.inferred_s) / steps,
            "nodes": {kind: {"step_s": seconds, "count": counts[kind]} for kind, seconds in listed},
            "others_s": sum(taken_s.values()) - sum(seconds for _, seconds in listed),
        }


def count_nodes(folder: Path, kept: Path, precision: str) -> dict[str, Any]:
    """Add up the operators' times of a guided job's steps in the middle of 10 s, in seconds per step."""
    with mock.patch.object(ov, "Core", CountingCore):
        composer = load_composer(folder, OPENVINO, precision, kept)
    count, read = NodeCount(), NodeCount()
    bench, decoder = OwnBench(composer), composer.model.decoder
    feed = decoder.feed

    def feed_and_note(*arguments: Any) -> None:
        nonlocal read
        feed(*arguments)
        read = replace(count)

    with _replace_infer(composer, count.make_infer), mock.patch.object(decoder, "feed", feed_and_note):
        bench.time_steps(composer.scheduler, [bench.lay_track(find_start(PLACES[1]) + 1, STEPS, 0)])
    return count.subtract(read)


@contextmanager
def _replace_infer(composer: MusicgenPipeline, make: Callable[[Any], Callable[[], object]]) -> Iterator[None]:
    decoder: Any = composer.model.decoder
    with mock.patch.object(decoder, "_step", WatchedRequest(decoder._step, make(decoder._step))):
        yield


def main() -> None:
    """Profile, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.own_profile")
    parser.add_argument("folder", type=Path, help="the model's")
    parser.add_argument("kept", type=Path, help="where compiled graphs are kept")
    parser.add_argument("precision")
    chosen = parser.parse_args()
    parts = split_step(load_composer(chosen.folder, OPENVINO, chosen.precision, chosen.kept))
    write(parts=parts, **count_nodes(chosen.folder, chosen.kept, chosen.precision))


if __name__ == "__main__":
    main()
