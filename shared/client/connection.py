"""The way to the service: one request at a time, with timeouts, and every failure as one kind of error."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ValidationError
from requests import PreparedRequest, Response, Session
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from shared.client.errors import NO_ANSWER, ClientError, FieldProblem
from shared.jobs import RetryDelay

CONNECT_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 60.0
PAUSES: Final = RetryDelay(0.25, 8.0)
TRIES: Final = 12
"""With the pauses between them most of a minute: a restart takes less."""
_CHUNK_BYTES: Final = 2**16
_EXCERPT_LENGTH: Final = 200
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}

Body = TypeVar("Body", bound=BaseModel)
T = TypeVar("T")


class Connection:
    """Requests to one instance.

    Parameters
    ----------
    server
        Its address, ``http://127.0.0.1:8000`` for example.
    key
        What it demands, if it does.
    pauses
        How long to wait before the service is asked again, where it did not answer.

    Raises
    ------
    ValueError
        Address or key cannot be one.
    """

    def __init__(self, server: str, key: str | None, pauses: RetryDelay = PAUSES) -> None:
        parts = urlsplit(server)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{server!r} is no address of a server; give one like http://127.0.0.1:8000")
        if key is not None and (not key or not key.isascii() or not key.isprintable() or " " in key):
            raise ValueError("The key is empty or has characters that no key has; give it as it was printed")
        self.server = server.rstrip("/")
        self.pauses = pauses
        self._key = key
        self._session = Session()
        # A proxy of the environment has another loopback than ours.
        self._session.trust_env = parts.hostname not in _LOOPBACK
        # As requests' own authentication, or a .netrc would replace it.
        self._session.auth = self._sign

    def close(self) -> None:
        """Close it."""
        self._session.close()

    def ask(self, method: str, *path: str, read_timeout_s: float = ANSWER_TIMEOUT_S, **request: Any) -> Response:  # noqa: ANN401 - what requests takes
        """Ask once.

        Parameters
        ----------
        path
            Parts of the path below the API's root, of whatever characters.
        read_timeout_s
            How long the service may be silent.

        Raises
        ------
        ClientError
            No answer came, or one that refuses.
        ValueError
            Something in the request cannot be sent.
        """
        address = "/".join((self.server, "api/v1", *(quote(part, safe="") for part in path)))
        timeouts = (CONNECT_TIMEOUT_S, read_timeout_s)
        try:
            response = self._session.request(method, address, timeout=timeouts, allow_redirects=False, **request)
            if response.ok and not response.is_redirect:
                return response
            with response:
                raise _read_refusal(response)
        except RequestException as error:
            if isinstance(error, ValueError):
                raise
            raise self._describe(error) from error

    def insist(self, ask: Callable[[], T]) -> T:
        """Ask again and again, with growing pauses, while it is likely that the service will be back.

        Raises
        ------
        ClientError
            It refused, or it did not come back.
        """
        for attempt in count(1):
            try:
                return ask()
            except ClientError as error:
                if not error.passing or attempt == TRIES:
                    raise
            time.sleep(self.pauses.after(attempt))
        raise AssertionError  # it counts for ever

    def read_chunks(self, response: Response) -> Iterator[bytes]:
        """Yield the parts of a streamed body as they arrive.

        Raises
        ------
        ClientError
            It was cut, or the service fell silent.
        """
        try:
            while chunk := response.raw.read1(_CHUNK_BYTES):
                yield chunk
        except HTTPError as error:
            raise self._describe(error) from error

    def _describe(self, error: Exception) -> ClientError:
        """Say that no answer came, or not the whole of it, and why."""
        return ClientError(
            NO_ANSWER,
            "The server cannot be reached",
            f"{self.server} does not answer ({_find_reason(error)}); is it running, and is this its address?",
        )

    def _sign(self, request: PreparedRequest) -> PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def read(response: Response, kind: type[Body]) -> Body:
    """Read an answer.

    Raises
    ------
    ClientError
        It is something else.
    """
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise ClientError(
            response.status_code,
            "The answer cannot be understood",
            f"{response.url} did not answer as mindjobs does; is it one, and of this version?",
        ) from error


def _find_reason(error: BaseException) -> str:
    """Find what the system said, below what two libraries made of it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _read_refusal(response: Response) -> ClientError:
    """Read problem+json (RFC 9457), or what something between us and the service says instead."""
    try:
        problem = response.json()
        errors = [
            FieldProblem(str(each["pointer"]), str(each.get("code", "")), str(each["detail"]))
            for each in problem.get("errors", ())
        ]
        title, detail, error_type = (str(problem[name]) for name in ("title", "detail", "type"))
        return ClientError(response.status_code, title, detail, errors, error_type)
    except (ValueError, LookupError, TypeError, AttributeError):
        return ClientError(
            response.status_code,
            f"The server answered {response.status_code} {response.reason}",
            response.text[:_EXCERPT_LENGTH].strip() or f"{response.url} said no more.",
        )
