"""What the forms of all kinds have in common: fields become the body of the API, its problems go back to the fields."""

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from flask import render_template
from flask_wtf import FlaskForm
from wtforms import Field, SelectField

from shared.database.tables import Upload
from shared.errors import Problem
from shared.jobs import AUTO, Kind
from shared.schemas.submission import DEVICES
from shared.services import Services
from web.context import get_services

FILE_FIELD: Final = "file"
"""The file field of every form."""
UPLOAD_FIELD: Final = "upload"
"""Names files that are already uploaded, so that a form that is sent again need not send them again."""


class JobForm(FlaskForm):
    """A form as it was sent, or a blank one.

    Its fields are text; the API's schema decides whether the text is valid.
    """

    KIND: ClassVar[Kind]

    form_errors: Sequence[str]
    uploads: Sequence[Upload] = ()
    """The files of the form: those uploaded before, then those sent with it."""

    device = SelectField("Device", choices=DEVICES, default=AUTO)

    @property
    def texts(self) -> Mapping[str, str]:
        """Return the text of each field, by name."""
        return {name: field.data or "" for name, field in self._fields.items() if isinstance(field.data, str | None)}

    @classmethod
    def make_blank(cls, services: Services) -> Self:  # noqa: ARG003 - some forms depend on what this instance offers
        """Make a blank form."""
        return cls(formdata=None)

    @abstractmethod
    def prepare(self, services: Services) -> dict[str, Any]:
        """Fill in the choices of the fields, and return what else the form's template shows, by name."""

    @abstractmethod
    def build_body(self) -> dict[str, Any]:
        """Build the body that the API would get; what is not a number stays text, and the schema refuses it."""

    @abstractmethod
    def _find_field(self, parts: list[str]) -> tuple[str, str]:
        """Return the field that a pointer's parts mean, and a prefix for the message, such as ``line 3:``."""

    def assign_problems(self, problems: Iterable[Problem]) -> None:
        """Add each problem to the errors of its field, or of the form if no field matches."""
        for problem in problems:
            name, prefix = self._find_field([part for part in problem.pointer.split("/") if part])
            field: Field | None = self._fields.get(name)
            message = prefix + problem.detail
            if field is None:
                self.form_errors = [*self.form_errors, message]
            elif message not in field.errors:
                field.errors = [*field.errors, message]


def render_form(form: JobForm) -> str:
    """Render the form's page."""
    return render_template(f"{form.KIND}/form.html", form=form, **form.prepare(get_services()))


def read_number(text: str) -> int | float | str:
    """Convert a text to a number; a text that is not a number is returned as it is."""
    try:
        number = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()
    return number if type(number) in {int, float} else text.strip()
