"""What every form of a job has in common: fields in, the API's body out, and its problems back to the fields."""

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from flask_wtf import FlaskForm
from wtforms import Field, SelectField

from shared.database.tables import Upload
from shared.errors import Problem
from shared.jobs import AUTO, DeviceClass
from shared.settings import Settings

DEVICES: Final = [AUTO, *DeviceClass]
FILE: Final = "file"
"""The file field of every form."""
KEPT: Final = "upload"
"""Names files that came before, so that a form that fails need not send them again."""


class JobForm(FlaskForm):
    """A form as it was sent, or as nobody has filled it in yet.

    Its fields are text; whether that is right is the API's schema to say.
    """

    KIND: ClassVar[str]

    form_errors: Sequence[str]
    kept: Sequence[Upload] = ()
    """The files that have come with it."""

    device = SelectField("Device", choices=DEVICES, default=AUTO)

    @property
    def texts(self) -> Mapping[str, str]:
        """Return field to text."""
        return {name: field.data or "" for name, field in self._fields.items() if isinstance(field.data, str | None)}

    @classmethod
    def make_blank(cls, settings: Settings) -> Self:  # noqa: ARG003 - some forms look at what this instance has
        """Make the form that nobody has filled in yet."""
        return cls(formdata=None)

    @abstractmethod
    def list_notes(self, settings: Settings) -> dict[str, Any]:
        """Return what the form's template shows beside the fields, by name."""

    @abstractmethod
    def build_body(self) -> dict[str, Any]:
        """Write the body that the API would have got; what is not a number stays text, for the schema to refuse."""

    @abstractmethod
    def _place(self, parts: list[str]) -> tuple[str, str]:
        """Return the field that a pointer's parts belong to, and which of several things in it they mean."""

    def place_problems(self, problems: Iterable[Problem]) -> None:
        """Put each problem at its field; what belongs to no field is the form's own."""
        for problem in problems:
            name, which = self._place([part for part in problem.pointer.split("/") if part])
            holder: Field | None = self._fields.get(name)
            message = which + problem.detail
            if holder is None:
                self.form_errors = [*self.form_errors, message]
            elif message not in holder.errors:
                holder.errors = [*holder.errors, message]


def read_number(text: str) -> int | float | str:
    """Return the number that a text is, or the text where it is none."""
    try:
        number = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()
    return number if type(number) in {int, float} else text.strip()
