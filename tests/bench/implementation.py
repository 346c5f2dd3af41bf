"""An implementation of MusicGen, and its measured times and memory."""

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.bench.workload import average_over_positions

Repeats = dict[int, list[float]]


def _make_repeats() -> Repeats:
    return defaultdict(list)


@dataclass
class Implementation:
    """An implementation in one precision, and its measured times and memory.

    Parameters
    ----------
    title
        The name of the implementation in the report.
    precision
        The precision of the weights.
    position_s
        For each position, one value per repeat: the median duration of the steps of one guided job around this
        position.
    jobs_s
        For each number of guided jobs in a batch, one value per repeat: the median duration of the first steps.
    decode_s
        One value per repeat: how long EnCodec took to decode 10 s.
    peak_bytes
        The highest resident size of the process.
    """

    title: str
    precision: str
    position_s: Repeats = field(default_factory=_make_repeats)
    jobs_s: Repeats = field(default_factory=_make_repeats)
    decode_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def add_position_steps(self, step_s: Mapping[str, float]) -> None:
        """Add the durations of one repeat: for each position, the duration that a ``MeasuredProcess`` returned."""
        for position, seconds in step_s.items():
            self.position_s[int(position)].append(seconds)

    def find_steps_per_s(self, jobs: int = 1) -> float | None:
        """Return the median steps per second, or ``None`` if they were not measured.

        If the steps of one job were timed around several positions, the durations between these positions are
        interpolated, and the result is the average over all positions from the first to the last. In all other cases,
        the durations in ``jobs_s`` are used: those of the first steps of the sequences.
        """
        if jobs == 1 and len(self.position_s) > 1:
            medians = {position: statistics.median(repeats) for position, repeats in self.position_s.items()}
            return 1 / average_over_positions(medians)
        return 1 / statistics.median(self.jobs_s[jobs]) if jobs in self.jobs_s else None

    def find_first_steps_per_s(self) -> float:
        """Return the steps per second of one job at the first position."""
        return 1 / statistics.median(self.position_s[min(self.position_s)])

    def list_repeats(self) -> list[float]:
        """Return, for each repeat, the steps per second of one job, averaged as in `find_steps_per_s`."""
        repeats = zip(*self.position_s.values(), strict=True)
        return [1 / average_over_positions(dict(zip(self.position_s, steps, strict=True))) for steps in repeats]
