"""The places of a file that cannot be read, so that one answer names them all."""

from typing import Final

from shared.tables.errors import TableError
from shared.texts import Text, text

MAX_NAMED: Final = 10


class BadCells:
    """Counts the places of a file that cannot be read, and keeps the first ones in the order of the file."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[tuple[int, Text]] = []

    def add(self, line: int, what: Text) -> None:
        """Add one place: its line, and a text that names the line."""
        self.count += 1
        self._first.append((line, what))
        if len(self._first) > 2 * MAX_NAMED:
            self._sort()

    def raise_error(self) -> None:
        """Raise an error that names the number of places and the first ones, if there is any.

        Raises
        ------
        TableError
            The file has such places.
        """
        if not self.count:
            return
        self._sort()
        named = [what for _, what in self._first]
        if self.count == 1:
            raise TableError(Text("bad-cell", {}, tuple(named)))
        code = "bad-cells" if self.count <= MAX_NAMED else "bad-cells-first"
        raise TableError(Text(code, {"count": self.count, "named": len(named)}, tuple(named)))

    def _sort(self) -> None:
        self._first.sort(key=lambda place: place[0])
        del self._first[MAX_NAMED:]


def show(cell: str) -> str:
    """Return a cell as a message shows it: shortened if it is long."""
    max_chars = 60
    return cell if len(cell) <= max_chars else cell[: max_chars - 1] + "…"


def uneven(line: int, cells: int, width: int) -> Text:
    """Make the text for a row with another number of cells than the others."""
    return text("row-uneven", line=line, cells=cells, width=width)
