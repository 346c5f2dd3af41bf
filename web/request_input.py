"""What an API request brings besides its query: the JSON of its body, and its idempotency key."""

from typing import Any, Final

from flask import request
from werkzeug.exceptions import BadRequest

from shared.errors import RequestInvalidError, RequestMalformedError
from shared.schemas.problems import list_unstorable
from shared.texts import text

MAX_IDEMPOTENCY_KEY_LENGTH: Final = 255


def read_json() -> Any:  # noqa: ANN401 - JSON can be anything
    """Return the body.

    Raises
    ------
    RequestMalformedError
        It is not JSON.
    RequestInvalidError
        It contains strings that the database cannot store.
    """
    try:
        body = request.get_json(force=True)
    except (BadRequest, RecursionError) as error:
        raise RequestMalformedError(text("body-not-json")) from error
    problems = list_unstorable(body)
    if problems:
        raise RequestInvalidError(problems)
    return body


def read_idempotency_key() -> str | None:
    """Return the header ``Idempotency-Key``.

    Raises
    ------
    RequestMalformedError
        It is empty or too long.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH:
        raise RequestMalformedError(
            text("idempotency-key-length", length=len(key), max_length=MAX_IDEMPOTENCY_KEY_LENGTH)
        )
    return key
