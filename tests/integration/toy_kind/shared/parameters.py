"""The parameters of a toy job."""

from typing import Annotated

from pydantic import Field

from shared.schemas.strict import Strict


class ToyParams(Strict):
    """Add up numbers."""

    numbers: Annotated[list[int], Field(min_length=1, max_length=100)]
