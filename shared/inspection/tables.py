"""Inspects tables. Only the process without rights imports this module, since it reads what anyone may upload."""

from pathlib import Path
from typing import Any

from shared.tables.facts import Limits, ReadOptions
from shared.tables.reading import inspect_table


def inspect(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Find out what is in a table.

    Parameters
    ----------
    options
        Under ``limits`` the fields of `Limits`, and under ``read`` those of `ReadOptions` that are not detected.

    Raises
    ------
    TableError
        The file is not a table that can be read.
    """
    return inspect_table(path, ReadOptions(**options["read"]), Limits(**options["limits"])).model_dump(mode="json")
