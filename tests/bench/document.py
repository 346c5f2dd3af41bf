"""The report ``docs/benchmarks.md``.

It has one section per part of the benchmarks. When a part is run, only the section of this part is replaced.
"""

import re
from collections.abc import Sequence
from typing import Final

HEAD: Final = """# Benchmarks

Written only by `make bench`, from a clean tree: every figure below was measured by it, on the machine, at the date and
at the commit that are named at the start of its section. `make bench ONLY=musicgen` replaces that section and leaves
the others as they are.
"""

_SECTION: Final = re.compile(r"\n(?=## )")
_TITLE: Final = re.compile(r"## (.*)")


def replace_section(document: str, title: str, text: str, order: Sequence[str]) -> str:
    """Replace the section that has this title, or insert a new section; all other sections stay unchanged.

    Parameters
    ----------
    document
        The text that this function returned before, or an empty text.
    text
        The content of the section: Markdown without headings of the first and the second level.
    order
        The titles in the order in which their sections appear; sections with other titles come last.
    """
    _, *sections = _SECTION.split(document)
    by_title = {_find_title(section): section for section in sections}
    by_title[title] = f"## {title}\n\n{text.strip()}\n"
    ranks = {name: rank for rank, name in enumerate(order)}
    ordered = sorted(by_title, key=lambda name: ranks.get(name, len(ranks)))
    return "\n".join([HEAD, *(by_title[name] for name in ordered)])


def _find_title(section: str) -> str:
    match = _TITLE.match(section)
    return match[1] if match else ""
