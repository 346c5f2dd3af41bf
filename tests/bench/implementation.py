"""An implementation of MusicGen, and what was measured of it."""

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
    """An implementation in one precision, and what was measured of it.

    Parameters
    ----------
    title
        Its name in the report.
    precision
        Of its weights.
    position_s
        Position to the median duration of the steps around it, one value per repeat; for one guided job.
    jobs_s
        Number of guided jobs in the batch to the median duration of their first steps, one value per repeat.
    decode_s
        How long EnCodec took for 10 s, one value per repeat.
    """

    title: str
    precision: str
    position_s: Repeats = field(default_factory=_make_repeats)
    jobs_s: Repeats = field(default_factory=_make_repeats)
    decode_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def add_position_steps(self, step_s: Mapping[str, float]) -> None:
        """Add the steps of one repeat, as a ``MeasuredProcess`` returns them: position to duration."""
        for position, seconds in step_s.items():
            self.position_s[int(position)].append(seconds)

    def find_steps_per_s(self, jobs: int = 1) -> float | None:
        """Return the steps per second: of one job averaged over all positions, of several jobs at the start.

        ``None`` if they were not measured.
        """
        if jobs == 1 and len(self.position_s) > 1:
            medians = {position: statistics.median(repeats) for position, repeats in self.position_s.items()}
            return 1 / average_over_positions(medians)
        return 1 / statistics.median(self.jobs_s[jobs]) if jobs in self.jobs_s else None

    def find_first_steps_per_s(self) -> float:
        """Return the steps per second of one job at the first position."""
        return 1 / statistics.median(self.position_s[min(self.position_s)])

    def list_repeats(self) -> list[float]:
        """Return the steps per second of one job, averaged over all positions, in each repeat."""
        repeats = zip(*self.position_s.values(), strict=True)
        return [1 / average_over_positions(dict(zip(self.position_s, steps, strict=True))) for steps in repeats]
