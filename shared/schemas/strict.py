"""The base of every schema of requests: unknown fields and silent conversions are refused."""

from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from shared.texts import Text

TEXT_ERROR: Final = "text"
"""Type of pydantic's errors that carry a text of this service."""


class Strict(BaseModel):
    """A part of a request.

    Unknown fields are refused, since a misspelt parameter that is ignored
    costs its user more than an error. Strings are not accepted as numbers.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def inconsistency(field: str, text: Text) -> PydanticCustomError:
    """Make the error of a model's validator that compares several fields and reports one of them.

    Parameters
    ----------
    field
        Name of the field to report, in the model whose validator raises the error.
    text
        What is wrong and what would be right.
    """
    return _make_error(text, field)


def invalidity(text: Text) -> PydanticCustomError:
    """Make the error of a field's validator.

    Parameters
    ----------
    text
        What is wrong and what would be right.
    """
    return _make_error(text, None)


def _make_error(text: Text, field: str | None) -> PydanticCustomError:
    return PydanticCustomError(TEXT_ERROR, "{code}", {"field": field, **text.serialize()})
