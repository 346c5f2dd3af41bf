"""Who generates music in the bench, and what was measured of it."""

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.bench.positions import average

Repeats = dict[int, list[float]]


def _collect() -> Repeats:
    return defaultdict(list)


@dataclass
class Contender:
    """A way to generate, and what was measured of it.

    Parameters
    ----------
    title
        What it is called.
    precision
        Of its weights.
    windows_s
        Position to the median step around it, of each repeat; for one guided job.
    jobs_s
        Number of guided jobs to the median of their first steps, of each repeat.
    decode_s
        How long EnCodec took for 10 s, in each repeat.
    """

    title: str
    precision: str
    windows_s: Repeats = field(default_factory=_collect)
    jobs_s: Repeats = field(default_factory=_collect)
    decode_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def take_windows(self, step_s: Mapping[str, float]) -> None:
        """Take the steps of one repeat, as a ``companion`` tells them."""
        for place, seconds in step_s.items():
            self.windows_s[int(place)].append(seconds)

    def find_steps_per_s(self, jobs: int = 1) -> float | None:
        """Return the steps per second: those of one job averaged over all positions, those of several at the start.

        ``None`` where they were not measured.
        """
        if jobs == 1 and len(self.windows_s) > 1:
            return 1 / average({place: statistics.median(repeats) for place, repeats in self.windows_s.items()})
        return 1 / statistics.median(self.jobs_s[jobs]) if jobs in self.jobs_s else None

    def find_first_per_s(self) -> float:
        """Return the steps per second of one job at its start."""
        return 1 / statistics.median(self.windows_s[min(self.windows_s)])

    def list_repeats(self) -> list[float]:
        """Return the steps per second of one job in each repeat."""
        repeats = zip(*self.windows_s.values(), strict=True)
        return [1 / average(dict(zip(self.windows_s, steps, strict=True))) for steps in repeats]
