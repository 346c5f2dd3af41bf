"""``docs/benchmarks.md``: a section for each part, of which a run replaces its own."""

import re
from collections.abc import Sequence
from typing import Final

HEAD: Final = """# Benchmarks

Written by `make bench` alone: every figure below was measured by it, on the machine, at the date and at the commit that
stand at the head of each section. `make bench ONLY=musicgen` replaces that section and leaves the others as they are.
"""

_SECTION: Final = re.compile(r"\n(?=## )")
_TITLE: Final = re.compile(r"## (.*)")


def replace_section(document: str, title: str, text: str, order: Sequence[str]) -> str:
    """Put a section into the place of the one with its title; all others stay byte for byte.

    Parameters
    ----------
    document
        As this function left it, or empty.
    text
        Markdown without headings of the first and the second level.
    order
        In which sections follow each other; what is not among it comes last.
    """
    _, *sections = _SECTION.split(document)
    titled = {_find_title(section): section for section in sections}
    titled[title] = f"## {title}\n\n{text.strip()}\n"
    places = {name: place for place, name in enumerate(order)}
    ordered = sorted(titled, key=lambda name: places.get(name, len(places)))
    return "\n".join([HEAD, *(titled[name] for name in ordered)])


def _find_title(section: str) -> str:
    match = _TITLE.match(section)
    return match[1] if match else ""
