"""What pydantic found wrong, in the words and pointers of the API."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.errors import Problem

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_WORDS: Final = {
    "extra_forbidden": "is not a field here; check its spelling or leave it out",
    "missing": "is missing; give it",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
}


def list_problems(error: ValidationError, document: object, prefix: str = "") -> list[Problem]:
    """Turn pydantic's errors into problems.

    Parameters
    ----------
    error
        What the validation raised.
    document
        What was validated.
    prefix
        Pointer of ``document`` in the whole request.
    """
    return [
        Problem(prefix + _write_pointer(detail, document), _phrase(detail))
        for detail in error.errors(include_url=False)
    ]


def list_unstorable(document: object) -> list[Problem]:
    """List the texts in a document that no database takes: with a NUL, or with half a surrogate pair."""
    problems: list[Problem] = []
    waiting: list[tuple[tuple[str, ...], object]] = [((), document)]
    while waiting:  # not by recursion: a client decides how deep the document is
        place, value = waiting.pop()
        if isinstance(value, str) and _UNSTORABLE.search(value):
            problems.append(Problem(_join(place), "holds a NUL or half a surrogate pair; send plain text"))
        elif isinstance(value, Mapping):
            if any(_UNSTORABLE.search(name) for name in value):
                problems.append(Problem(_join(place), "has a name with a NUL or half a surrogate pair in it"))
            waiting += [((*place, name), part) for name, part in value.items()]
        elif isinstance(value, list):
            waiting += [((*place, str(number)), part) for number, part in enumerate(value)]
    return problems


def _phrase(detail: ErrorDetails) -> str:
    if detail["type"] in _WORDS:
        return _WORDS[detail["type"]]
    message = detail["msg"]
    return message[0].lower() + message[1:]


def _write_pointer(detail: ErrorDetails, document: object) -> str:
    parts = list(_walk(detail["loc"], document, detail["type"]))
    if detail["type"] == "misfit":
        parts.append(str(detail["ctx"]["field"]))
    elif detail["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        parts.append(str(detail["ctx"]["discriminator"]).strip("'"))
    return _join(parts)


def _join(parts: Iterable[str]) -> str:
    """Write a JSON pointer (RFC 6901)."""
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts)


def _walk(loc: tuple[int | str, ...], document: object, error_type: str) -> Iterator[str]:
    """Yield the parts of a location that are in the document; pydantic adds the tags of unions, which are not."""
    value: Any = document
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and isinstance(part, int):
            value = value[part] if part < len(value) else None
        elif not (last and error_type == "missing"):
            continue
        yield str(part)
