"""A client of the instance that repeats what was not answered, as a careful client does."""

import json
import math
import threading
import time
from collections import Counter
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from shared.ids import make_id

RESPONSE_TIMEOUT_S: Final = 10.0
PAUSE_S: Final = 0.2
"""How long the client waits before it repeats a request."""
NO_ANSWER: Final = "no answer"
_TRANSIENT: Final = frozenset({429, 500, 502, 503, 504, 507})


class RefusedError(Exception):
    """The instance has refused a correct request for good."""


class Client:
    """Sends requests to one instance; a thread of its own may use each method.

    Parameters
    ----------
    host, port
        The address of the instance.
    key
        An API key; without it, requests are anonymous.
    """

    def __init__(self, host: str, port: int, key: str | None) -> None:
        self._host = host
        self._port = port
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._closed = threading.Event()
        self.answers: Counter[str] = Counter()
        """How often each status was the answer to a request, and how often there was no answer."""

    def close(self) -> None:
        """Repeat no further request."""
        self._closed.set()

    def ask(self, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Send one request.

        Returns
        -------
        The status and the JSON of the response; 0 and ``None`` if there was no complete response.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            with closing(HTTPConnection(self._host, self._port, timeout=RESPONSE_TIMEOUT_S)) as connection:
                connection.request("GET" if data is None else "POST", path, data, self._headers | headers)
                response = connection.getresponse()
                answer = response.status, json.loads(response.read())
        except (OSError, HTTPException, ValueError):
            answer = 0, None
        self.answers[str(answer[0]) if answer[0] else NO_ANSWER] += 1
        return answer

    def ask_until_answered(
        self, path: str, body: object = None, *, give_up_at_s: float = math.inf, **headers: str
    ) -> Any:
        """Repeat a request until it has succeeded.

        Parameters
        ----------
        give_up_at_s
            The time of the monotonic clock after which the request is not repeated.

        Returns
        -------
        The JSON of the response; ``None`` after ``give_up_at_s`` and after ``close``.

        Raises
        ------
        RefusedError
            The response says that the request is wrong.
        """
        while not self._closed.is_set() and time.monotonic() < give_up_at_s:
            status, answer = self.ask(path, body, **headers)
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                return answer
            if status and status not in _TRANSIENT:
                raise RefusedError(f"{path}: {status}: {answer}")
            self._closed.wait(PAUSE_S)
        return None

    def submit(self, body: object, *, give_up_at_s: float = math.inf) -> str | None:
        """Submit a job, and return its id as soon as the instance has acknowledged it.

        The idempotency key makes sure that a request that is repeated submits no second job.

        Returns
        -------
        The id; ``None`` if the submission was given up, as in `ask_until_answered`.
        """
        key = {"Idempotency-Key": make_id()}
        answer = self.ask_until_answered("/api/v1/jobs", body, give_up_at_s=give_up_at_s, **key)
        return None if answer is None else str(answer["id"])
