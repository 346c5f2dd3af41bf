"""What goes wrong between a client and the service."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

NO_ANSWER: Final = 0
_PASSING: Final = {
    NO_ANSWER,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field of a request, as the service said it.

    Parameters
    ----------
    pointer
        JSON pointer (RFC 6901) of the field.
    code
        The stable name of what is wrong.
    detail
        The sentence for people.
    """

    pointer: str
    code: str
    detail: str


class ClientError(Exception):
    """The service refused, could not be reached, or gave an answer that cannot be used.

    Parameters
    ----------
    status
        HTTP status of the answer; 0 where none came.
    title
        The error in a few words.
    detail
        What happened and what to do, in a sentence.
    errors
        What is wrong with the request, field by field.
    error_type
        Names the kind of error for programs, where the service does.
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
        """Whether no answer came."""
        return self.status == NO_ANSWER

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed a little later."""
        return self.status in _PASSING
