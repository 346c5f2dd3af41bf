"""The manner of every schema: no field that is not known, no silent conversion."""

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """A part of a request.

    Unknown fields are refused, since a misspelt parameter that is ignored
    costs its user more than an error. Strings are not taken for numbers.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def inconsistency(field: str, detail: str) -> PydanticCustomError:
    """Make the error of a validator that looks at several fields and blames one.

    Parameters
    ----------
    field
        Name of the field to blame, in the model whose validator raises this.
    detail
        What is wrong and what would be right.
    """
    return PydanticCustomError("misfit", "{detail}", {"field": field, "detail": detail})
