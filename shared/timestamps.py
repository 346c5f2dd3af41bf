"""Moments as documents and messages write them."""

from datetime import datetime


def format_timestamp(moment: datetime) -> str:
    """Write a moment in UTC (RFC 3339)."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
