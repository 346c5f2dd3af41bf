"""HTTP requests to the service, with timeouts and retries; a request that fails raises ``ClientError``."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ValidationError
from requests import PreparedRequest, Response, Session
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from shared.client.errors import NO_RESPONSE, ClientError, FieldProblem
from shared.retry_delay import RetryDelay

CONNECT_TIMEOUT_S: Final = 10.0
RESPONSE_TIMEOUT_S: Final = 60.0
RETRY_DELAY: Final = RetryDelay(0.25, 8.0)
MAX_ATTEMPTS: Final = 12
"""The delays between this number of attempts take nearly a minute in all, longer than a restart of the service."""
_CHUNK_BYTES: Final = 2**16
_EXCERPT_LENGTH: Final = 200
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}

Body = TypeVar("Body", bound=BaseModel)
T = TypeVar("T")


class Connection:
    """Sends requests to one instance of the service.

    Parameters
    ----------
    server
        The address of the instance, for example ``http://127.0.0.1:8000``.
    key
        The API key, if the instance requires a key.
    retry_delay
        The delay before a request is repeated after a transient error.

    Raises
    ------
    ValueError
        The address or the key is malformed.
    """

    def __init__(self, server: str, key: str | None, retry_delay: RetryDelay = RETRY_DELAY) -> None:
        parts = urlsplit(server)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{server!r} is not the address of a server; use the form http://127.0.0.1:8000")
        if key is not None and (not key or not key.isascii() or not key.isprintable() or " " in key):
            raise ValueError("The key is empty or contains characters that no key has; use it as it was printed")
        self.server = server.rstrip("/")
        self.retry_delay = retry_delay
        self._key = key
        self._session = Session()
        # If the server is on loopback, use no proxy from the environment: a proxy would connect to its own loopback.
        self._session.trust_env = parts.hostname not in _LOOPBACK
        # The key is set as the authentication of the session, since a .netrc file would replace a plain header.
        self._session.auth = self._authenticate

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def request(self, method: str, *path: str, read_timeout_s: float = RESPONSE_TIMEOUT_S, **options: Any) -> Response:  # noqa: ANN401 - the options of requests
        """Send one request.

        Parameters
        ----------
        path
            Segments of the path below the root of the API; a segment may contain any character.
        read_timeout_s
            The maximum time in which the service may send nothing.

        Raises
        ------
        ClientError
            There was no response, or the response was an error or a redirect.
        ValueError
            The request cannot be sent.
        """
        address = "/".join((self.server, "api/v1", *(quote(part, safe="") for part in path)))
        timeouts = (CONNECT_TIMEOUT_S, read_timeout_s)
        try:
            response = self._session.request(method, address, timeout=timeouts, allow_redirects=False, **options)
            if response.ok and not response.is_redirect:
                return response
            with response:
                raise _parse_error(response)
        except RequestException as error:
            if isinstance(error, ValueError):
                raise
            raise self._explain(error) from error

    def retry(self, send: Callable[[], T]) -> T:
        """Send a request, and repeat it with growing delays while it fails with a transient error.

        Raises
        ------
        ClientError
            The error is not transient, or `MAX_ATTEMPTS` attempts have failed.
        """
        for attempt in count(1):
            try:
                return send()
            except ClientError as error:
                if not error.transient or attempt == MAX_ATTEMPTS:
                    raise
            time.sleep(self.retry_delay.after(attempt))
        raise AssertionError  # never reached: the loop ends by return or raise

    def read_chunks(self, response: Response) -> Iterator[bytes]:
        """Yield the parts of a streamed body as they arrive.

        Raises
        ------
        ClientError
            The connection was lost, or the service sent nothing for too long.
        """
        try:
            while chunk := response.raw.read1(_CHUNK_BYTES):
                yield chunk
        except HTTPError as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> ClientError:
        """Make the error for a response that is missing or incomplete."""
        return ClientError(
            NO_RESPONSE,
            "The server cannot be reached",
            f"{self.server} does not respond ({_find_reason(error)}). Check its address and that it runs.",
        )

    def _authenticate(self, request: PreparedRequest) -> PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def read(response: Response, kind: type[Body]) -> Body:
    """Parse a response as the given class.

    Raises
    ------
    ClientError
        The response does not fit the class.
    """
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise ClientError(
            response.status_code,
            "The response cannot be understood",
            f"{response.url} did not respond as mindjobs does. Check that it is a mindjobs service of this version.",
        ) from error


def _find_reason(error: BaseException) -> str:
    """Return the message of the original error, which requests and urllib3 have wrapped in errors of their own.

    The original error is often an error of the operating system.
    """
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _parse_error(response: Response) -> ClientError:
    """Parse problem+json (RFC 9457), or any other error response, for example from a proxy in front of the service."""
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
            f"The server returned {response.status_code} {response.reason}",
            response.text[:_EXCERPT_LENGTH].strip() or f"{response.url} gave no explanation.",
        )
