"""Texts for people: codes with values, put into English in `render` and nowhere else.

Problems, job errors, warnings and notes are raised, stored and compared as codes. The sentence is built when a person
or a response needs it. To add a language, add a catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Self

from shared.jobs import Kind
from shared.texts import english

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Text:
    """A sentence that has not been put into a language yet.

    Parameters
    ----------
    code
        The stable name of the sentence for programs, for example ``column-unknown``.
    values
        The values that are inserted into the sentence. They are JSON values, so that a database row can store them.
    details
        Texts that are inserted into the sentence as its value ``details``, separated by semicolons.
    """

    code: str
    values: Mapping[str, Value] = field(default_factory=dict)
    details: tuple["Text", ...] = ()

    def serialize(self) -> dict[str, Any]:
        """Return the text as JSON, in the form in which rows and results store a text."""
        stored: dict[str, Any] = {"code": self.code, "values": dict(self.values)}
        return stored | {"details": [detail.serialize() for detail in self.details]} if self.details else stored

    @classmethod
    def parse(cls, stored: Mapping[str, Any]) -> Self:
        """Build a text from the JSON that `serialize` returned."""
        details = tuple(Text.parse(detail) for detail in stored.get("details", ()))
        return cls(stored["code"], stored["values"], details)


def text(code: str, /, **values: Value) -> Text:
    """Make a text: ``text("column-unknown", column="age")``."""
    return Text(code, values)


def render(what: Text) -> str:
    """Put a text into English.

    If no catalogue contains the code, for example because a newer version wrote the row, the value named ``message`` is
    shown. Only the texts of pydantic's errors have such a value. For other texts, the code is shown with the values.
    """
    sentence = load_sentences().get(what.code)
    if sentence is None and isinstance(what.values.get("message"), str):
        return str(what.values["message"])
    if sentence is None:
        return f"{what.code} {dict(what.values)}" if what.values else what.code
    return sentence.format_map({"details": "; ".join(map(render, what.details)), **what.values})


def can_render(what: Text) -> bool:
    """Return whether a text has the values of its sentence: one that a process without rights made may have any."""
    try:
        render(what)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        return False
    return True


def render_title(error_type: str) -> str:
    """Return the English title of a type of error; a type that no catalogue contains is returned unchanged."""
    return load_titles().get(error_type, error_type)


def render_error(stored: Mapping[str, Any]) -> dict[str, str]:
    """Put a job's stored error into English, for a response: ``{"type", "title", "detail"}``.

    Rows that were written before version 0.1.0 contain the sentences themselves.
    """
    if "detail" in stored:
        return {name: stored[name] for name in ("type", "title", "detail")}
    return {
        "type": stored["type"],
        "title": render_title(stored["type"]),
        "detail": render(Text.parse(stored)),
    }


def render_stored(stored: Mapping[str, Any] | str) -> dict[str, str]:
    """Put a stored text into English, for a response: ``{"code", "detail"}``.

    Rows that were written before version 0.1.0 contain the sentence itself.
    """
    if isinstance(stored, str):
        return {"code": "text", "detail": stored}
    return {"code": stored["code"], "detail": render(Text.parse(stored))}


@cache
def load_sentences() -> Mapping[str, str]:
    """Load the sentences of the service and of every kind of job, keyed by code."""
    return _merge("SENTENCES")


@cache
def load_titles() -> Mapping[str, str]:
    """Load the titles of the service and of every kind of job, keyed by type of error."""
    return _merge("TITLES")


def _merge(name: str) -> dict[str, str]:
    """Merge the dictionaries with this name from all catalogues: the service, audio, tables, and the kinds of job."""
    packages = ("shared.audio", "shared.tables", *(f"shared.kinds.{kind}" for kind in Kind))
    catalogues = (english, *(import_module(f"{package}.english") for package in packages))
    return {code: value for catalogue in catalogues for code, value in getattr(catalogue, name).items()}
