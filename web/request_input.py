"""Reads the JSON body and the idempotency key of an API request."""

from typing import Any, Final

from flask import request
from werkzeug.exceptions import BadRequest

from shared.errors import RequestInvalidError, RequestMalformedError
from shared.schemas.problems import list_unacceptable
from shared.texts import text

MAX_IDEMPOTENCY_KEY_LENGTH: Final = 255


def read_json() -> Any:  # noqa: ANN401 - JSON can be anything
    """Return the parsed JSON of the request's body.

    Raises
    ------
    RequestMalformedError
        The body is not JSON.
    RequestInvalidError
        The body has too many values, or contains strings that the database cannot store.
    """
    try:
        body = request.get_json(force=True)
    except (BadRequest, RecursionError) as error:
        raise RequestMalformedError(text("body-not-json")) from error
    problems = list_unacceptable(body)
    if problems:
        raise RequestInvalidError(problems)
    return body


def read_idempotency_key() -> str | None:
    """Return the value of the header ``Idempotency-Key``; ``None`` if the request does not have this header.

    Raises
    ------
    RequestMalformedError
        The value is empty or too long.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH:
        raise RequestMalformedError(
            text("idempotency-key-length", length=len(key), max_length=MAX_IDEMPOTENCY_KEY_LENGTH)
        )
    return key
