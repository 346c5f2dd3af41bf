"""The base class of the forms of all kinds of job.

The fields of a form become the body of an API request, and the problems of that body are shown at the fields.
"""

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
"""The name of the file field, in every form."""
UPLOAD_FIELD: Final = "upload"
"""The name of the field with the ids of uploaded files. A form that is sent again need not send these files again."""


class JobForm(FlaskForm):
    """The form of a job: as the user sent it, or blank.

    The values of the fields are text. The schema of the API decides whether this text is valid.
    """

    KIND: ClassVar[Kind]

    form_errors: Sequence[str]
    uploads: Sequence[Upload] = ()
    """The files of the form: first the files that were uploaded before, then the files that were sent with the form."""

    device = SelectField("Device", choices=DEVICES, default=AUTO)

    @property
    def texts(self) -> Mapping[str, str]:
        """Return the text of each field, keyed by the name of the field."""
        return {name: field.data or "" for name, field in self._fields.items() if isinstance(field.data, str | None)}

    @property
    def is_outdated(self) -> bool:
        """Whether the user has chosen from what has changed since; then the form is shown again, and queues nothing."""
        return False

    @classmethod
    def make_blank(cls, services: Services) -> Self:  # noqa: ARG003 - some forms depend on what this instance offers
        """Make a blank form."""
        return cls(formdata=None)

    @abstractmethod
    def prepare(self, services: Services) -> dict[str, Any]:
        """Fill in the choices of the fields, and return the other variables of the form's template, keyed by name."""

    @abstractmethod
    def build_body(self) -> dict[str, Any]:
        """Build the body of the API request.

        If the value of a number field is not a number, it stays a text, and the schema refuses it.
        """

    @abstractmethod
    def _find_field(self, parts: list[str]) -> tuple[str, str]:
        """Return the name of the field at which a problem is shown, and a prefix for the message of the problem.

        ``parts`` are the parts of the problem's JSON pointer. An example of a prefix is ``line 3:``.
        """

    def assign_problems(self, problems: Iterable[Problem]) -> None:
        """Add each problem to the errors of its field, or to the errors of the form if no field matches."""
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
    """Convert a text to a number. If the text is not a number, return the text without surrounding white space."""
    try:
        number = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()
    return number if type(number) in {int, float} else text.strip()
