"""Follows a job by its event stream, or by long polls if there is no stream."""

import time
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Final

from requests import Response
from urllib3.exceptions import ReadTimeoutError

from shared.client.connection import Connection, read
from shared.client.errors import ClientError
from shared.client.events import Event, MalformedStreamError, read_events
from shared.client.responses import Artifact, Job, Progress, StateChange

MAX_SILENCE_S: Final = 45.0
"""If a stream sends nothing for this time, the client polls.

While nothing happens, the service regularly sends a comment in the stream. So if not even comments arrive for this
time, something between the service and the client holds the stream back.
"""
POLL_WAIT_S: Final = 20
POLL_PAUSE_S: Final = 1.0
"""The pause between two polls if the service responds at once, because it has no free slot for a long poll."""
MAX_FAILED_STREAMS: Final = 3
"""If this number of streams in succession end without an event, the client polls."""


class _NoStreamError(Exception):
    """The service offers no event stream, or the stream does not reach the client."""


class EventFollower:
    """Yields each event of a job once, the earliest first, even if connections are lost or the service restarts.

    Parameters
    ----------
    connection
        Sends the requests.
    job_id
        The job.
    """

    def __init__(self, connection: Connection, job_id: str) -> None:
        self._connection = connection
        self._job_id = job_id
        self._seen = _Seen()
        self._failed_streams = 0

    def follow(self) -> Iterator[Event]:
        """Yield events until the job has ended.

        Raises
        ------
        ClientError
            There is no such job, or the service still fails after `MAX_ATTEMPTS` attempts.
        """
        try:
            yield from self._stream()
        except _NoStreamError:
            yield from self._poll()

    def _stream(self) -> Iterator[Event]:
        while True:
            with self._connection.retry(self._open) as response:
                if response.status_code == HTTPStatus.NO_CONTENT and self._seen.ended:
                    return
                if response.headers.get("Content-Type", "").partition(";")[0] != "text/event-stream":
                    raise _NoStreamError
                self._failed_streams += 1
                yield from self._read(response)
            if self._failed_streams and self._seen.ended:
                return
            if self._failed_streams == MAX_FAILED_STREAMS:
                raise _NoStreamError
            if self._failed_streams:
                time.sleep(self._connection.retry_delay.after(self._failed_streams))

    def _open(self) -> Response:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if self._seen.last_id is not None:
            headers["Last-Event-ID"] = self._seen.last_id
        try:
            return self._connection.request(
                "GET", "jobs", self._job_id, "events", read_timeout_s=MAX_SILENCE_S, headers=headers, stream=True
            )
        except ClientError as error:
            if error.unreachable:
                raise
            # The job may be available although the stream is not. If the job is not available, the first poll reports
            # why.
            raise _NoStreamError from error

    def _read(self, response: Response) -> Iterator[Event]:
        """Yield the events of one stream until it ends or the connection is lost."""
        events = read_events(self._connection.read_chunks(response))
        while True:
            try:
                event = next(events, None)
            except MalformedStreamError:
                return
            except ClientError as error:
                if isinstance(error.__cause__, ReadTimeoutError):
                    raise _NoStreamError from error
                return
            if event is None:
                return
            self._failed_streams = 0
            self._seen.record(event)
            yield event

    def _poll(self) -> Iterator[Event]:
        etag: str | None = None
        while True:
            response = self._connection.retry(partial(self._request_job, etag))
            if response.status_code != HTTPStatus.NOT_MODIFIED:
                for event in self._seen.list_new_events(read(response, Job)):
                    self._seen.record(event)
                    yield event
            if self._seen.ended:
                return
            if etag is not None and "Preference-Applied" not in response.headers:
                time.sleep(POLL_PAUSE_S)
            etag = response.headers.get("ETag")

    def _request_job(self, etag: str | None) -> Response:
        """Request the job; with an ETag, the service responds when the job has changed or `POLL_WAIT_S` has passed."""
        headers = {} if etag is None else {"If-None-Match": etag, "Prefer": f"wait={POLL_WAIT_S}"}
        return self._connection.request("GET", "jobs", self._job_id, read_timeout_s=2.0 * POLL_WAIT_S, headers=headers)


class _Seen:
    """Records which events have been yielded, so that polls after a stream yield only new events."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.ended = False
        self._state: StateChange | None = None
        self._progress: Progress | None = None
        self._files: set[str] = set()

    def record(self, event: Event) -> None:
        """Record an event."""
        self.last_id = event.id or self.last_id
        match event.data:
            case StateChange() as state:
                self._state = state
                self.ended = state.ended
            case Progress() as progress:
                self._progress = progress
            case Artifact(name=name):
                self._files.add(name)

    def list_new_events(self, job: Job) -> list[Event]:
        """Return events for everything in a polled job that no recorded event has reported."""
        new_events: list[Event] = []
        state = StateChange.model_validate(job.model_dump(include=set(StateChange.model_fields)))
        if state != self._state:
            new_events.append(Event(state))
        if job.progress.stage is not None and not job.ended and job.progress != self._progress:
            new_events.append(Event(job.progress))
        return new_events + [Event(artifact) for artifact in job.artifacts if artifact.name not in self._files]
