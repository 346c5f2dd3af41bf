"""How processes log: a line per event on standard error, as text or as JSON, which the process manager collects."""

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

_facts: ContextVar[dict[str, str]] = ContextVar("facts")


@contextmanager
def log_context(**facts: str | None) -> Iterator[None]:
    """Add facts to every line that this thread logs within the block: the request and the job that it is about."""
    token = _facts.set(_facts.get({}) | {name: value for name, value in facts.items() if value is not None})
    try:
        yield
    finally:
        _facts.reset(token)


def set_log_context(**facts: str) -> None:
    """Add facts to every line that this thread logs until it is told of others: of a request, all that follows it."""
    _facts.set(facts)


class _TextFormatter(logging.Formatter):
    """Writes the facts behind the message."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        facts = "".join(f" {name}={value}" for name, value in _facts.get({}).items())
        first, *rest = super().format(record).split("\n", 1)
        return "\n".join([first + facts, *rest])


class _JsonFormatter(JsonFormatter):
    """Writes an object per line, the facts among its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        record.__dict__.update(_facts.get({}))
        return str(super().format(record))


def make_formatter(settings: Settings) -> logging.Formatter:
    """Make what writes the lines."""
    if settings.log_format == "json":
        return _JsonFormatter("%(levelname)s%(process)d%(name)s%(message)s", rename_fields=_RENAMED, timestamp="time")
    return _TextFormatter(TEXT)


def set_up_logging(settings: Settings) -> None:
    """Send everything to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter(settings))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # Alembic and kombu tell of each step; their warnings are enough.
    for name in ("alembic", "kombu", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
