"""The form of the toy kind."""

from typing import Any

from wtforms import StringField

from shared.jobs import Kind
from shared.services import Services
from web.kinds.job_form import JobForm, read_number


class ToyForm(JobForm):
    """Numbers, separated by commas."""

    KIND = Kind.TOY

    numbers = StringField("Numbers", default="1, 2, 3")

    def prepare(self, services: Services) -> dict[str, Any]:  # noqa: ARG002 - nothing to prepare
        """See ``JobForm``."""
        return {}

    def build_body(self) -> dict[str, Any]:
        """See ``JobForm``."""
        numbers = [read_number(part) for part in self.texts["numbers"].split(",")]
        return {"kind": self.KIND, "params": {"numbers": numbers}, "device": self.texts["device"]}

    def _find_field(self, parts: list[str]) -> tuple[str, str]:  # noqa: ARG002 - there is one field
        return "numbers", ""
