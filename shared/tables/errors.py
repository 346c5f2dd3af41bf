"""The error with which every file ends that is not a table, or not one that can be read."""

from shared.errors import MindjobsError


class TableError(MindjobsError):
    """A file cannot be read as a table. The text names the line or the column, and what to do."""

    type = "table-unreadable"
    status = 422
