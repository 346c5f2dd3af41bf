"""The web part of each kind of job: its form, its part of a job's page, and calls of its own.

A kind is a member of ``shared.jobs.Kind`` and a package here of the same name, whose ``PAGES`` describes it.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from shared.jobs import Kind
from web.kinds.spec import KindPages

PAGES: Final[Mapping[Kind, KindPages]] = {kind: import_module(f"web.kinds.{kind}").PAGES for kind in Kind}


def find_pages(kind: str) -> KindPages | None:
    """Return the web part of a kind; ``None`` for a kind that this version does not know, as a row may have one."""
    return PAGES[Kind(kind)] if kind in PAGES else None
