"""The base class of all request schemas, which refuse unknown fields and silent conversions."""

from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from shared.texts import Text

TEXT_ERROR: Final = "text"
"""The type of those pydantic errors that contain a text of this service."""


class Strict(BaseModel):
    """A part of a request.

    Unknown fields are refused, since a misspelt parameter that is silently ignored costs the user more than an error.
    Strings are not accepted as numbers.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def inconsistency(field: str, text: Text) -> PydanticCustomError:
    """Make an error for a validator that compares several fields of a model. The error is reported at one field.

    Parameters
    ----------
    field
        The name of the field at which the error is reported.
    text
        What is wrong and what would be right.
    """
    return _make_error(text, field)


def invalidity(text: Text) -> PydanticCustomError:
    """Make an error for a validator that checks a single field.

    Parameters
    ----------
    text
        What is wrong and what would be right.
    """
    return _make_error(text, None)


def _make_error(text: Text, field: str | None) -> PydanticCustomError:
    return PydanticCustomError(TEXT_ERROR, "{code}", {"field": field, **text.serialize()})
