"""Logging: one line per event on standard error, as text or as JSON, collected by the process manager."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from pythonjsonlogger.json import JsonFormatter

from shared.settings import Settings

TEXT: Final = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"
_RENAMED: Final = {"levelname": "level", "name": "logger"}

_fields: ContextVar[dict[str, str]] = ContextVar("fields")


@contextmanager
def log_context(**fields: str | None) -> Iterator[None]:
    """Add fields to every line that this thread logs within the block: the request and the job that it concerns."""
    token = _fields.set(_fields.get({}) | {name: value for name, value in fields.items() if value is not None})
    try:
        yield
    finally:
        _fields.reset(token)


def set_log_context(**fields: str) -> None:
    """Replace the fields that are added to every line that this thread logs from now on: at the start of a request."""
    _fields.set(fields)


class _TextFormatter(logging.Formatter):
    """Appends the fields to the message."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        fields = "".join(f" {name}={value}" for name, value in _fields.get({}).items())
        first, *rest = super().format(record).split("\n", 1)
        return "\n".join([first + fields, *rest])


class _JsonFormatter(JsonFormatter):
    """Formats one JSON object per line, with the fields of the context among its own."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        record.__dict__.update(_fields.get({}))
        return str(super().format(record))


def make_formatter(settings: Settings) -> logging.Formatter:
    """Make the formatter that the settings choose."""
    if settings.log_format == "json":
        return _JsonFormatter("%(levelname)s%(process)d%(name)s%(message)s", rename_fields=_RENAMED, timestamp="time")
    return _TextFormatter(TEXT)


def set_up_logging(settings: Settings) -> None:
    """Send all log lines to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter(settings))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # Alembic and kombu log each step; their warnings are enough.
    for name in ("alembic", "kombu", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO if settings.log_sql else logging.WARNING)
