"""The result of one part of the benchmarks: first the ratios, each with its aim, then the detailed figures."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

REPEATS_VARIABLE: Final = "MINDJOBS_BENCH_REPEATS"
"""The environment variable that sets how often each measurement is repeated. It is meant for short trial runs."""

SMALL_VALUE: Final = 0.1
"""Ratios below this value are shown with two significant digits, all other ratios with two decimal places."""


@dataclass(frozen=True)
class Ratio:
    """A quotient of two measurements, or another key figure, and its aim.

    Parameters
    ----------
    name
        The name of the ratio, such as ``A / B`` if A is divided by B.
    aim
        ``None`` if the ratio is shown for information only.
    is_upper_bound
        Whether the aim is a maximum; otherwise it is a minimum.
    """

    name: str
    value: float
    aim: float | None = None
    is_upper_bound: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the value meets the aim; ``None`` if there is no aim."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.is_upper_bound else self.value >= self.aim


@dataclass(frozen=True)
class Section:
    """The result of one part.

    Parameters
    ----------
    ratios
        The key figures.
    body
        The details in Markdown; its headings are of the third level.
    conditions
        A fact that only this part measures, about the machine or about the run.
    """

    ratios: Sequence[Ratio]
    body: str
    conditions: str = ""

    @classmethod
    def join(cls, parts: Iterable[Self], conditions: str = "") -> Self:
        """Join several sections into one."""
        listed = list(parts)
        bodies = [part.body for part in listed if part.body]
        return cls([ratio for part in listed for ratio in part.ratios], "\n\n".join(bodies), conditions)

    def format(self) -> str:
        """Format the section in Markdown, without a heading for the section itself."""
        return "\n\n".join(text for text in (format_ratios(self.ratios), self.body) if text)


def format_ratios(ratios: Iterable[Ratio]) -> str:
    """Format a table of ratios."""
    return format_table(["ratio", "value", "aim", "met"], [_format_ratio(ratio) for ratio in ratios])


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table whose first column is text, and whose other columns are figures.

    If there are no rows, the result is an empty text.
    """
    lines = [[*row] for row in rows]
    if not lines:
        return ""
    rules = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [[*head], rules, *lines])


def read_repeats(default: int) -> int:
    """Return how often each measurement is repeated: the value of `REPEATS_VARIABLE`, or ``default``."""
    return int(os.environ.get(REPEATS_VARIABLE) or default)


def _format_ratio(ratio: Ratio) -> list[str]:
    value = f"{ratio.value:.2f}" if ratio.value >= SMALL_VALUE else f"{ratio.value:.2g}"
    if ratio.aim is None:
        return [ratio.name, value, "-", "-"]
    bound = "at most" if ratio.is_upper_bound else "at least"
    return [ratio.name, value, f"{bound} {ratio.aim:g}", "yes" if ratio.met else "**no**"]
