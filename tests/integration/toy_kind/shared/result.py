"""The result of a toy job."""

from typing_extensions import TypedDict


class ToyResult(TypedDict):
    """The sum."""

    total: int
