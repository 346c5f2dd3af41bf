"""What happens to a job, as it happens: by the event stream, or by long polls where there is none."""

import time
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Final

from requests import Response
from urllib3.exceptions import ReadTimeoutError

from shared.client.connection import Connection, read
from shared.client.errors import ClientError
from shared.client.events import Event, GarbledStreamError, read_events
from shared.client.responses import Artifact, Job, Progress, StateChange

MAX_SILENCE_S: Final = 45.0
"""The stream has a comment in between where nothing happens: after this long something holds it back."""
POLL_WAIT_S: Final = 20
POLL_PAUSE_S: Final = 1.0
"""Between polls that the service answers at once, because too many wait there."""
MAX_FAILED_STREAMS: Final = 3
"""As often in succession may a stream end without an event."""


class _NoStreamError(Exception):
    """There is no stream here, or none that gets through."""


class EventFollower:
    """Tells each event of a job once, in order, across cuts and restarts of the service.

    Parameters
    ----------
    connection
        The way to the service.
    job_id
        Which job.
    """

    def __init__(self, connection: Connection, job_id: str) -> None:
        self._connection = connection
        self._job_id = job_id
        self._told = _Told()
        self._fruitless = 0

    def follow(self) -> Iterator[Event]:
        """Yield events until the job has ended.

        Raises
        ------
        ClientError
            There is no such job, or the service does not come back.
        """
        try:
            yield from self._stream()
        except _NoStreamError:
            yield from self._poll()

    def _stream(self) -> Iterator[Event]:
        while True:
            with self._connection.insist(self._open) as response:
                if response.status_code == HTTPStatus.NO_CONTENT and self._told.ended:
                    return
                if response.headers.get("Content-Type", "").partition(";")[0] != "text/event-stream":
                    raise _NoStreamError
                self._fruitless += 1
                yield from self._read(response)
            if self._fruitless and self._told.ended:
                return
            if self._fruitless == MAX_FAILED_STREAMS:
                raise _NoStreamError
            if self._fruitless:
                time.sleep(self._connection.pauses.after(self._fruitless))

    def _open(self) -> Response:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if self._told.last_id is not None:
            headers["Last-Event-ID"] = self._told.last_id
        try:
            return self._connection.ask(
                "GET", "jobs", self._job_id, "events", read_timeout_s=MAX_SILENCE_S, headers=headers, stream=True
            )
        except ClientError as error:
            if error.unreachable:
                raise
            # Whatever it refused, the job itself may be had; if not, the polls say why.
            raise _NoStreamError from error

    def _read(self, response: Response) -> Iterator[Event]:
        """Yield what comes by one answer, until it ends or is cut."""
        events = read_events(self._connection.read_chunks(response))
        while True:
            try:
                event = next(events, None)
            except GarbledStreamError:
                return
            except ClientError as error:
                if isinstance(error.__cause__, ReadTimeoutError):
                    raise _NoStreamError from error
                return
            if event is None:
                return
            self._fruitless = 0
            self._told.note(event)
            yield event

    def _poll(self) -> Iterator[Event]:
        etag: str | None = None
        while True:
            response = self._connection.insist(partial(self._ask, etag))
            if response.status_code != HTTPStatus.NOT_MODIFIED:
                for event in self._told.list_news(read(response, Job)):
                    self._told.note(event)
                    yield event
            if self._told.ended:
                return
            if etag is not None and "Preference-Applied" not in response.headers:
                time.sleep(POLL_PAUSE_S)
            etag = response.headers.get("ETag")

    def _ask(self, etag: str | None) -> Response:
        """Ask for the job: at once, or when it is no longer as it was."""
        headers = {} if etag is None else {"If-None-Match": etag, "Prefer": f"wait={POLL_WAIT_S}"}
        return self._connection.ask("GET", "jobs", self._job_id, read_timeout_s=2.0 * POLL_WAIT_S, headers=headers)


class _Told:
    """What has been told so far, so that polls after a stream tell only what is new."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.ended = False
        self._state: StateChange | None = None
        self._progress: Progress | None = None
        self._files: set[str] = set()

    def note(self, event: Event) -> None:
        """Remember an event."""
        self.last_id = event.id or self.last_id
        match event.data:
            case StateChange() as state:
                self._state = state
                self.ended = state.ended
            case Progress() as progress:
                self._progress = progress
            case Artifact(name=name):
                self._files.add(name)

    def list_news(self, job: Job) -> list[Event]:
        """List what a look at the job tells beyond that."""
        news: list[Event] = []
        state = StateChange.model_validate(job.model_dump(include=set(StateChange.model_fields)))
        if state != self._state:
            news.append(Event(state))
        if job.progress.stage is not None and not job.ended and job.progress != self._progress:
            news.append(Event(job.progress))
        return news + [Event(artifact) for artifact in job.artifacts if artifact.name not in self._files]
