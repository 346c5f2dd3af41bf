"""The errors that a client raises."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

NO_RESPONSE: Final = 0
_TRANSIENT: Final = {
    NO_RESPONSE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field of a request, as the service reports it.

    Parameters
    ----------
    pointer
        JSON pointer (RFC 6901) of the field.
    code
        Stable name of the problem, for programs.
    detail
        Description of the problem, for people.
    """

    pointer: str
    code: str
    detail: str


class ClientError(Exception):
    """The service refused the request, could not be reached, or sent a response that cannot be used.

    Parameters
    ----------
    status
        HTTP status of the response; 0 if there was no response.
    title
        The type of error in a few words, for people.
    detail
        What happened and what to do.
    errors
        What is wrong with the request, field by field.
    error_type
        The type of error, for programs; ``about:blank`` if the service does not name a type.
    """

    def __init__(
        self, status: int, title: str, detail: str, errors: Sequence[FieldProblem] = (), error_type: str = "about:blank"
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.type = error_type
        self.status = status
        self.title = title
        self.errors = tuple(errors)

    @property
    def unreachable(self) -> bool:
        """Whether the service sent no response."""
        return self.status == NO_RESPONSE

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status in _TRANSIENT
