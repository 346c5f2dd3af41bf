"""Converts pydantic's errors into problems that have the pointers and codes of the API."""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.errors import Problem
from shared.schemas.strict import TEXT_ERROR
from shared.texts import Text, text

MAX_VALUES: Final = 5_000
"""The maximum number of values in a request: of fields and of list items, at all depths together."""
MAX_PROBLEMS: Final = 100
"""The maximum number of problems that are listed; of the others, only the number is reported."""
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def list_problems(error: ValidationError, document: object, prefix: str = "") -> list[Problem]:
    """Convert pydantic's errors into problems: the first `MAX_PROBLEMS` errors, and the number of the other errors.

    Parameters
    ----------
    error
        The error that the validation raised.
    document
        The document that was validated.
    prefix
        The JSON pointer of ``document`` in the whole request.
    """
    problems = [
        Problem(prefix + _build_pointer(detail, document), _build_text(detail))
        for detail in error.errors(include_url=False, include_input=False)[:MAX_PROBLEMS]
    ]
    return _note_omitted(problems, error.error_count(), prefix)


def list_unacceptable(document: object) -> list[Problem]:
    """Return the problems that no schema would find: too many values, and strings that a database cannot store.

    A database cannot store a string that contains a NUL character or half of a surrogate pair. A document with more
    than `MAX_VALUES` values is not read to its end, since it would take seconds to report everything that is wrong.
    """
    problems: list[Problem] = []
    count = 0
    pending: deque[tuple[tuple[str, ...], object]] = deque([((), document)])
    while pending:  # a loop and not a recursion, because a client decides how deep the document is
        path, value = pending.popleft()
        if isinstance(value, str) and _UNSTORABLE.search(value):
            problems.append(Problem(_join(path), text("string-unstorable")))
        if not isinstance(value, Mapping | list):
            continue
        count += len(value)
        if count > MAX_VALUES:
            return [Problem(_join(path), text("values-too-many", max_values=MAX_VALUES))]
        if isinstance(value, Mapping) and any(map(_UNSTORABLE.search, value)):
            problems.append(Problem(_join(path), text("name-unstorable")))
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        pending += [((*path, str(name)), part) for name, part in parts if isinstance(part, str | Mapping | list)]
    return limit_problems(problems, "")


def limit_problems(problems: list[Problem], pointer: str) -> list[Problem]:
    """Return the first `MAX_PROBLEMS` problems and, at ``pointer``, the number of the other ones."""
    return _note_omitted(problems[:MAX_PROBLEMS], len(problems), pointer)


def _note_omitted(problems: list[Problem], total: int, pointer: str) -> list[Problem]:
    """Add a problem that says how many problems are not in the list, if there are any."""
    omitted = total - len(problems)
    return [*problems, Problem(pointer, text("problems-omitted", count=omitted))] if omitted else problems


def _build_text(detail: ErrorDetails) -> Text:
    """Build the text of an error.

    If a validator of this service made the error, the error contains the text. Otherwise the code of the text is
    pydantic's type of error. If the catalogue has no sentence for this code, pydantic's message is shown.
    """
    context = detail.get("ctx", {})
    if detail["type"] == TEXT_ERROR:
        return Text.parse(context)
    values = {name: _simplify(value) for name, value in context.items() if isinstance(value, str | int | float)}
    message = detail["msg"]
    return Text(detail["type"].replace("_", "-"), values | {"message": message[:1].lower() + message[1:]})


def _simplify(value: str | float) -> str | float:
    """Convert a whole number to an integer, so that a sentence shows 1 and not 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _build_pointer(detail: ErrorDetails, document: object) -> str:
    parts = list(_list_parts(detail["loc"], document, detail["type"]))
    context = detail.get("ctx", {})
    if detail["type"] == TEXT_ERROR and context["field"] is not None:
        parts.append(context["field"])
    elif detail["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        parts.append(str(context["discriminator"]).strip("'"))
    return _join(parts)


def _join(parts: Iterable[str]) -> str:
    """Build a JSON pointer (RFC 6901)."""
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts)


def _list_parts(loc: tuple[int | str, ...], document: object, error_type: str) -> Iterator[str]:
    """Yield the parts of a pydantic location that belong to a JSON pointer.

    These are the parts that exist in the document, and the name of a missing field. A location also contains the tags
    of unions, which are left out.
    """
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
