"""The body of a request that the application cannot read, because it has not arrived, or will never arrive."""

import io
from typing import TYPE_CHECKING, Final

from typing_extensions import override

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_BYTES: Final = "mindjobs.max_body_bytes"
"""The key of a WSGI environment under which the application writes the maximum size of the body that it reads."""
JUDGED: Final = "mindjobs.judged"
"""The key of a WSGI environment that marks the second call for a request: the first call found that the body is
needed."""


class BodyPendingError(BaseException):
    """The application reads the body of a request that has not arrived yet.

    The server receives the body, and calls the application again. This class is no ``Exception``, since no error
    handler of the application may handle it.
    """


class UnreadableBody(io.RawIOBase):
    """A body that raises an error when it is read.

    Parameters
    ----------
    error
        `BodyPendingError`, or the reason why the body did not arrive completely.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        raise self._error
