"""The web part of each kind of job: the form, the kind's part of a job's page, and the API calls of the kind.

For each member of ``shared.jobs.Kind``, this folder has a package of the same name. ``PAGES`` in that package describes
the kind.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from shared.jobs import Kind
from web.kinds.spec import KindPages

PAGES: Final[Mapping[Kind, KindPages]] = {kind: import_module(f"web.kinds.{kind}").PAGES for kind in Kind}


def find_pages(kind: str) -> KindPages | None:
    """Return the web part of a kind; ``None`` if this version does not know the kind.

    The row of a job may contain a kind that this version does not know.
    """
    return PAGES[Kind(kind)] if kind in PAGES else None
