"""Dates and times as text, converted to days since 1970-01-01.

Understood are ``2024-01-31`` (also with ``/`` or ``.``), ``31.1.2024``, ``31/1/2024``, ``1/31/2024``, ``31-Jan-2024``,
``31 January 2024`` and ``Jan 31, 2024``, each with or without a time (``T12:00``, ``12:00:00.5``, ``12:00 PM``) and a
time zone (``Z``, ``+01:00``). All cells of a column must have the same order of day and month. If no cell of a column
with slashes or dashes has a day above 12, the order is not known; the column then stays text, and a warning says so.
Points mean that the day comes first, as in every country that writes points.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

_TIME: Final = (
    r"(?:[T ]\s*(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}(?:[.,][0-9]+)?))?"
    r"\s*(?P<half>[AaPp][Mm])?\s*(?P<zone>Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_DATES: Final = (
    r"(?P<year>[0-9]{4})[-/.](?P<month>[0-9]{1,2})[-/.](?P<day>[0-9]{1,2})",
    r"(?P<first>[0-9]{1,2})(?P<mark>[-/.])(?P<other>[0-9]{1,2})[-/.](?P<year>[0-9]{4})",
    r"(?P<day>[0-9]{1,2})[- ](?P<name>[A-Za-z]{3,9})[-, ]+(?P<year>[0-9]{4})",
    r"(?P<name>[A-Za-z]{3,9})\.? (?P<day>[0-9]{1,2}),? (?P<year>[0-9]{4})",
)
_PATTERNS: Final = tuple(f"^{date}{_TIME}$" for date in _DATES)
_MONTH_NAMES: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTHS: Final = {
    name[:length]: number for number, name in enumerate(_MONTH_NAMES, start=1) for length in (3, len(name))
}
_MAX_MONTH: Final = 12
_HALF_DAY_HOURS: Final = 12


@dataclass(frozen=True)
class Dates:
    """A column of dates: days since 1970-01-01, NaN if missing. None if the order of day and month is not known."""

    days: NDArray[np.float64] | None


def find_dates(cells: pl.Series) -> Dates | None:
    """Convert a column of dates; None if it is not one.

    Parameters
    ----------
    cells
        The cells, null if missing; at least one is not missing.
    """
    present = cells.drop_nulls()
    for pattern in _PATTERNS:
        if not all(re.match(pattern, cell) for cell in present.head(20)):
            continue
        parts = present.str.extract_groups(pattern).struct.unnest()
        if not parts["year"].null_count():
            return _convert(cells, parts)
    return None


def _convert(cells: pl.Series, parts: pl.DataFrame) -> Dates | None:
    if "first" in parts.columns:
        ordered = _order(parts)
        if ordered is None:
            return Dates(None)
        parts = ordered
    if "name" in parts.columns:
        month = parts["name"].str.to_lowercase().replace_strict(_MONTHS, default=None, return_dtype=pl.Int32)
    else:
        month = parts["month"].cast(pl.Int32)
    numbers = parts.select(pl.col("year", "day").cast(pl.Int32)).with_columns(month.alias("month"))
    iso = numbers.select(
        pl.format(
            "{}-{}-{}",
            *(pl.col(part).cast(pl.String).str.zfill(width) for part, width in (("year", 4), ("month", 2), ("day", 2))),
        )
    ).to_series()
    dates = iso.str.to_date("%Y-%m-%d", strict=False)
    times = _convert_times(parts)
    if dates.null_count() or times is None:
        return None
    days = np.full(len(cells), np.nan)
    days[cells.is_not_null().to_numpy()] = dates.cast(pl.Int32).to_numpy() + times
    return Dates(days)


def _order(parts: pl.DataFrame) -> pl.DataFrame | None:
    """Name the two first numbers of a date day and month; None if the order is not known."""
    first, second = parts["first"].cast(pl.Int32), parts["other"].cast(pl.Int32)
    if (parts["mark"] == ".").all() or (first > _MAX_MONTH).any():
        return parts.rename({"first": "day", "other": "month"})
    if (second > _MAX_MONTH).any():
        return parts.rename({"first": "month", "other": "day"})
    return None


def _convert_times(parts: pl.DataFrame) -> NDArray[np.float64] | None:
    """Convert times of the day to fractions of a day; None if one is impossible, such as 25:00."""
    hour = parts["hour"].cast(pl.Float64).fill_null(0)
    minute = parts["minute"].cast(pl.Float64).fill_null(0)
    second = parts["second"].str.replace(",", ".", literal=True).cast(pl.Float64).fill_null(0)
    if (hour > 24).any() or (minute >= 60).any() or (second > 60).any():  # noqa: PLR2004 - the units of time
        return None
    half = parts["half"].str.to_lowercase().fill_null("")
    hour = hour - _HALF_DAY_HOURS * ((half != "") & (hour == _HALF_DAY_HOURS)).cast(pl.Float64)
    hour = hour + _HALF_DAY_HOURS * (half == "pm").cast(pl.Float64)
    zone = parts["zone"].str.replace(":", "", literal=True).str.strip_prefix("UTC").str.strip_prefix("Z")
    offset = zone.str.slice(1, 2).cast(pl.Float64, strict=False).fill_null(0) * 60
    offset = offset + zone.str.slice(3, 2).cast(pl.Float64, strict=False).fill_null(0)
    offset = offset * pl.Series(np.where(zone.str.starts_with("-").fill_null(value=False).to_numpy(), -1.0, 1.0))
    minutes = hour * 60 + minute - offset
    return (minutes / 1_440 + second / 86_400).to_numpy()
