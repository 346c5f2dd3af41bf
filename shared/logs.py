"""Logging to standard error: one line per message, as text or as JSON. The process manager collects the lines."""

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
    """Add fields, such as the ids of a request and a job, to every line that this thread logs within the block."""
    token = _fields.set(_fields.get({}) | {name: value for name, value in fields.items() if value is not None})
    try:
        yield
    finally:
        _fields.reset(token)


def set_log_context(**fields: str) -> None:
    """From now on, add these fields, and no earlier fields, to every line that this thread logs.

    The web application calls this function at the start of a request.
    """
    _fields.set(fields)


class _TextFormatter(logging.Formatter):
    """Formats log lines as text, with the fields of the log context after the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record. The fields are added to the first line, before the lines of a traceback."""
        fields = "".join(f" {name}={value}" for name, value in _fields.get({}).items())
        first, *rest = super().format(record).split("\n", 1)
        return "\n".join([first + fields, *rest])


class _JsonFormatter(JsonFormatter):
    """Formats each log line as a JSON object that also contains the fields of the log context."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, after adding the fields of the log context to it."""
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
    # These libraries log every detail of their work, or every refused request; their warnings are enough.
    for name in ("alembic", "flask-limiter", "kombu", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO if settings.log_sql else logging.WARNING)
