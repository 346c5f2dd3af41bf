"""The calls of the API as methods."""

import mimetypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack

from shared.client import downloads
from shared.client.connection import RETRY_DELAY, Connection, read
from shared.client.errors import ClientError
from shared.client.event_follower import POLL_WAIT_S, EventFollower
from shared.client.events import Event
from shared.client.responses import Job, Page, Upload, UploadPage
from shared.retry_delay import RetryDelay

SERVER: Final = "http://127.0.0.1:8000"
_PAGE_LENGTH: Final = 100


class Envelope(TypedDict, total=False):
    """What a submission may set besides its parameters; the service has a default for each field."""

    device: str
    priority: int
    timeout_s: float
    max_attempts: int
    webhook: Mapping[str, Any]
    labels: Mapping[str, str]


class JobFilter(TypedDict, total=False):
    """Which jobs to list."""

    state: str | Sequence[str]
    """One state, or several: a job matches if it is in one of them."""
    kind: str
    device: str
    created_after: datetime
    created_before: datetime


class Client:
    """A client of one instance of mindjobs; every method may raise ``ClientError``.

    Methods that take a file or a folder may also raise ``OSError``.

    Parameters
    ----------
    server
        The address of the instance. Default: the environment variable ``MINDJOBS_SERVER``, or port 8000 on this
        machine.
    key
        The API key, if the instance requires a key. Default: the environment variable ``MINDJOBS_KEY``.
    retry_delay
        The delay before a request is repeated after a transient error.

    Raises
    ------
    ValueError
        The address or the key is malformed.

    Examples
    --------
    >>> with Client() as client:
    ...     job = client.submit("musicgen", {"prompts": ["80s pop track"], "duration_s": 5}, priority=7)
    ...     job = client.wait(job.id, watch=print)
    ...     client.download(job.id, "out")
    """

    def __init__(
        self, server: str | None = None, key: str | None = None, *, retry_delay: RetryDelay = RETRY_DELAY
    ) -> None:
        self._connection = Connection(
            server or os.environ.get("MINDJOBS_SERVER") or SERVER,
            key if key is not None else os.environ.get("MINDJOBS_KEY") or None,
            retry_delay,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def upload(self, path: str | Path) -> Upload:
        """Upload a file; the parameters of a job refer to an upload by its ``id``."""
        path = Path(path)
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        with path.open("rb") as file:
            files = {"file": (path.name, file, media_type)}
            return read(self._connection.request("POST", "uploads", files=files), Upload)

    def list_uploads(self, *, limit: int | None = None) -> Iterator[Upload]:
        """Yield all own uploads, or at most ``limit`` uploads, newest first; a page is requested when it is needed."""
        return islice(self._list_uploads(min(limit or _PAGE_LENGTH, _PAGE_LENGTH)), limit)

    def get_upload(self, upload_id: str) -> Upload:
        """Return what is known about an upload."""
        return read(self._connection.request("GET", "uploads", upload_id), Upload)

    def wait_for_upload(self, upload_id: str) -> Upload:
        """Return an upload when it is inspected: with what was found in the file, or why it is unreadable."""
        while (upload := self._connection.retry(lambda: self._poll_upload(upload_id))).pending:
            pass
        return upload

    def delete_upload(self, upload_id: str) -> None:
        """Delete an upload that no queued or running job needs."""
        self._connection.request("DELETE", "uploads", upload_id)

    def submit(
        self,
        kind: str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **envelope: Unpack[Envelope],
    ) -> Job:
        """Queue a job.

        Parameters
        ----------
        params
            The parameters of the job; the kind has defaults for parameters that are missing here.
        idempotency_key
            Makes it safe to repeat the submission: if the same submission is sent again with the same key, no new job
            is created, and the first job is returned.
        """
        headers = _make_headers(idempotency_key)
        body = {"kind": kind, "params": dict(params or {}), **envelope}
        return read(self._connection.request("POST", "jobs", json=body, headers=headers), Job)

    def get(self, job_id: str) -> Job:
        """Return a job."""
        return read(self._connection.request("GET", "jobs", job_id), Job)

    def list(
        self, labels: Mapping[str, str] | None = None, *, limit: int | None = None, **wanted: Unpack[JobFilter]
    ) -> Iterator[Job]:
        """Yield all jobs, or at most ``limit`` jobs, newest first; a page is requested when its jobs are needed."""
        return islice(self._list(labels or {}, min(limit or _PAGE_LENGTH, _PAGE_LENGTH), wanted), limit)

    def follow(self, job_id: str) -> Iterator[Event]:
        """Yield each event of a job once, from the submission to the end of the job.

        This also works if connections are lost or the service restarts.
        """
        return EventFollower(self._connection, job_id).follow()

    def wait(self, job_id: str, watch: Callable[[Event], object] | None = None) -> Job:
        """Return the job when it has ended; until then, call ``watch`` with each event."""
        for event in self.follow(job_id):
            if watch is not None:
                watch(event)
        return self._connection.retry(lambda: self.get(job_id))

    def cancel(self, job_id: str) -> Job:
        """Cancel a queued job at once, or request that a running job stops."""
        return read(self._connection.request("POST", "jobs", job_id, "cancel"), Job)

    def retry(self, job_id: str, *, new_seed: bool = False, idempotency_key: str | None = None) -> Job:
        """Queue a new job with the parameters of an ended job, which computes the same again.

        Parameters
        ----------
        new_seed
            Whether the new job has another seed.
        idempotency_key
            Makes it safe to repeat the request: the same job and key again return the first new job.
        """
        headers = _make_headers(idempotency_key)
        query = {"seed": "new"} if new_seed else {}
        return read(self._connection.request("POST", "jobs", job_id, "retry", headers=headers, params=query), Job)

    def delete(self, job_id: str) -> None:
        """Delete an ended job and its files."""
        self._connection.request("DELETE", "jobs", job_id)

    def download(self, job_id: str, folder: str | Path, *names: str) -> tuple[Path, ...]:
        """Download the files of a job with the given names, or all files if no name is given, and return their paths.

        Raises
        ------
        FileExistsError
            The folder already contains a file with the same name and other content.
        """
        found = {artifact.name: artifact for artifact in self.get(job_id).artifacts}
        for name in names:
            if name not in found:
                raise ClientError(
                    HTTPStatus.NOT_FOUND,
                    "The job has no such file",
                    f"{name!r} is not one of its files: {', '.join(found) or 'it has none'}.",
                )
        return tuple(downloads.download(self._connection, job_id, found[name], Path(folder)) for name in names or found)

    def download_archive(self, job_id: str, path: str | Path) -> Path:
        """Download all files of a job, with its parameters and its result, as a zip archive; return its path.

        Raises
        ------
        FileExistsError
            There is already a file at this path.
        """
        return downloads.download_archive(self._connection, job_id, Path(path))

    def _poll_upload(self, upload_id: str) -> Upload:
        """Return an upload when it is inspected, or `POLL_WAIT_S` have passed."""
        headers = {"Prefer": f"wait={POLL_WAIT_S}"}
        timeout_s = 2.0 * POLL_WAIT_S
        return read(
            self._connection.request("GET", "uploads", upload_id, read_timeout_s=timeout_s, headers=headers), Upload
        )

    def _list_uploads(self, page_length: int) -> Iterator[Upload]:
        query: dict[str, Any] = {"limit": page_length}
        while True:
            page = read(self._connection.request("GET", "uploads", params=query), UploadPage)
            yield from page.uploads
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    def _list(self, labels: Mapping[str, str], page_length: int, wanted: JobFilter) -> Iterator[Job]:
        query = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in wanted.items()}
        query |= {f"label.{name}": value for name, value in labels.items()} | {"limit": page_length}
        while True:
            page = read(self._connection.request("GET", "jobs", params=query), Page)
            yield from page.jobs
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor


def _make_headers(idempotency_key: str | None) -> dict[str, bytes]:
    return {} if idempotency_key is None else {"Idempotency-Key": idempotency_key.encode()}
