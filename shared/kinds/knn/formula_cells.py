"""Text cells of CSV files that a spreadsheet would read as formulas.

Labels come from a user's table, and a spreadsheet runs a cell such as ``=HYPERLINK(…)``, even if it is quoted. With an
apostrophe in front, the cell is text. Numbers such as ``-1`` are no formulas and stay as they are.
"""

import re
from typing import Final

MARK: Final = "'"
# A cell that already begins with a mark gets a further one, so that `unmark_formula` returns the cell unchanged.
_FORMULA: Final = re.compile(rf"{MARK}*[=+\-@\t\r]")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def mark_formula(cell: str) -> str:
    """Put an apostrophe in front of a cell that a spreadsheet would read as a formula."""
    return MARK + cell if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def unmark_formula(cell: str) -> str:
    """Return the cell to which `mark_formula` was applied."""
    return cell.removeprefix(MARK) if _FORMULA.match(cell) else cell
