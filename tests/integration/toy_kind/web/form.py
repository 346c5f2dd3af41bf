"""The form of the toy kind."""

from typing import Any

from wtforms import StringField

from shared.jobs import Kind
from shared.services import Services
from web.kinds.job_form import JobForm, read_number


class ToyForm(JobForm):
    """A form with a text field for numbers, separated by commas."""

    KIND = Kind.TOY

    numbers = StringField("Numbers", default="1, 2, 3")

    def prepare(self, services: Services) -> dict[str, Any]:  # noqa: ARG002 - nothing to prepare
        """Return no values: the template shows nothing besides the fields."""
        return {}

    def build_body(self) -> dict[str, Any]:
        """Build the body that the API would get, from the numbers and the device."""
        numbers = [read_number(part) for part in self.texts["numbers"].split(",")]
        return {"kind": self.KIND, "params": {"numbers": numbers}, "device": self.texts["device"]}

    def _find_field(self, parts: list[str]) -> tuple[str, str]:  # noqa: ARG002 - there is one field
        return "numbers", ""
