"""Timestamps as responses and messages show them."""

from datetime import datetime


def format_timestamp(timestamp: datetime) -> str:
    """Format a timestamp in UTC (RFC 3339)."""
    return timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
