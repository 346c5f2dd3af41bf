"""What every form has in common: fields in, the API's body out, and its problems back to the fields."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from shared.errors import Problem
from shared.settings import Settings

DEVICES: Final = ["auto", "cpu", "gpu", "ascend"]
# The name of the file field in every form.
FILE: Final = "file"
# The field that names files which came before, so that a form that fails need not send them again.
KEPT: Final = "upload"


@dataclass(frozen=True)
class Form(ABC):
    """A form as it was sent.

    Parameters
    ----------
    fields
        Field to text; a switch only where it is on.
    uploads
        The identifiers of the files that came with it.
    """

    CHOICES: ClassVar[Mapping[str, Sequence[str]]]
    """Field to what can be chosen there."""
    DEFAULTS: ClassVar[Mapping[str, str]]
    """Field to what an untouched form has in it."""
    SWITCHES: ClassVar[frozenset[str]]
    """The fields that browsers leave out when they are off."""

    fields: Mapping[str, str]
    uploads: Sequence[str] = ()

    @classmethod
    def read(cls, sent: Mapping[str, str], uploads: Sequence[str]) -> Self:
        """Take this form's fields out of everything that was sent."""
        names = [name for name in cls.DEFAULTS if name in sent or name not in cls.SWITCHES]
        return cls({name: sent.get(name, "") for name in names}, uploads)

    @classmethod
    def make_untouched(cls, settings: Settings) -> Self:  # noqa: ARG003 - some forms look at what this instance has
        """Make the form that nobody has filled in yet."""
        return cls(cls.DEFAULTS)

    def list_notes(self, settings: Settings) -> dict[str, Any]:  # noqa: ARG002 - the same
        """Return what the form's template shows beside the fields, by name."""
        return {}

    @abstractmethod
    def write_body(self) -> dict[str, Any]:
        """Write the body that the API would have got; what is not a number stays text, for the schema to refuse."""

    def place_problems(self, problems: Iterable[Problem]) -> dict[str, str]:
        """Return field to message; what belongs to no field stands under the empty name."""
        placed: dict[str, list[str]] = {}
        for problem in problems:
            name, which = self._place([part for part in problem.pointer.split("/") if part])
            messages = placed.setdefault(name if name in self.DEFAULTS or name == FILE else "", [])
            if (message := which + problem.detail) not in messages:
                messages.append(message)
        return {name: "; ".join(messages) for name, messages in placed.items()}

    @abstractmethod
    def _place(self, parts: list[str]) -> tuple[str, str]:
        """Return the field that a pointer's parts belong to, and which of several things in it they mean."""


def read_number(text: str) -> int | float | str:
    """Return the number that a text is, or the text where it is none."""
    try:
        number = json.loads(text)
    except ValueError:
        return text.strip()
    return number if type(number) in {int, float} else text.strip()
