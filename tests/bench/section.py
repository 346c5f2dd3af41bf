"""What a part of the bench has to say: ratios first, each with its aim, and then the figures."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

REPEATS_VARIABLE: Final = "MINDJOBS_BENCH_REPEATS"
"""Names how often to repeat each measurement; for trying the bench itself out."""

SMALL: Final = 0.1
"""Less than this is written with two digits that count, however far behind the point."""


@dataclass(frozen=True)
class Ratio:
    """A quotient of two measurements, and where it should lie.

    Parameters
    ----------
    name
        What is divided by what.
    aim
        ``None`` where it is told for its own sake.
    is_upper_bound
        Whether the aim is a limit from above.
    """

    name: str
    value: float
    aim: float | None = None
    is_upper_bound: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the value is where it should be; ``None`` without an aim."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.is_upper_bound else self.value >= self.aim


@dataclass(frozen=True)
class Section:
    """What was measured by one part.

    Parameters
    ----------
    ratios
        Those worth looking at first.
    body
        Markdown; its headings are of the third level.
    about
        What is to be known of the machine besides.
    """

    ratios: Sequence[Ratio]
    body: str
    about: str = ""

    @classmethod
    def join(cls, parts: Iterable[Self], about: str = "") -> Self:
        """Make one of several."""
        listed = list(parts)
        bodies = [part.body for part in listed if part.body]
        return cls([ratio for part in listed for ratio in part.ratios], "\n\n".join(bodies), about)

    def write(self) -> str:
        """Write it in Markdown, without heading."""
        return "\n\n".join(text for text in (write_ratios(self.ratios), self.body) if text)


def write_ratios(ratios: Iterable[Ratio]) -> str:
    """Write a table of them."""
    return write_table(["ratio", "value", "aim", "met"], [_write_ratio(ratio) for ratio in ratios])


def write_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table, the first column of which is text, and the others figures; nothing if it has no rows."""
    lines = [[*row] for row in rows]
    if not lines:
        return ""
    rules = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [[*head], rules, *lines])


def count_repeats(usual: int) -> int:
    """Return how often to measure, for the median."""
    return int(os.environ.get(REPEATS_VARIABLE) or usual)


def _write_ratio(ratio: Ratio) -> list[str]:
    value = f"{ratio.value:.2f}" if ratio.value >= SMALL else f"{ratio.value:.2g}"
    if ratio.aim is None:
        return [ratio.name, value, "-", "-"]
    side = "at most" if ratio.is_upper_bound else "at least"
    return [ratio.name, value, f"{side} {ratio.aim:g}", "yes" if ratio.met else "**no**"]
